"""RMCall against servers on real sockets: forms, order, failures, spreading."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from modelworker import (
    ContextTooLong,
    InputTooLong,
    InvalidRequest,
    ModelNotServed,
    PartialBatch,
    RevisionChanged,
    RMCall,
    Score,
    ScoreError,
    Unsupported,
    WorkerFailed,
)
from tests.client_reward_support import (
    batch_of,
    body,
    expected,
    questions,
    rm,
    scoring,
    slowly,
    step_scores,
)
from tests.client_support import Reply, Request, StubWorker, error, workers

USER = {"role": "user", "content": "2+2?"}


def test_one_answer_in_every_form() -> None:
    steps = ["one", "two"]
    conversation = [USER, {"role": "assistant", "content": "one\n\ntwo"}]
    with workers(scoring) as running, rm(running) as client:
        forms = [
            client.score(("2+2?", "one\n\ntwo")),
            client.score(("2+2?", steps)),
            client.score(("2+2?", "one;two"), separator=";"),
            client.score("2+2?", steps=steps),
            client.score(conversation),
            client.score([("2+2?", steps)])[0],
            client.score([conversation])[0],
            client.score(["2+2?"], steps=[steps])[0],
        ]
        assert all(isinstance(score, Score) for score in forms)
        assert {tuple(score.step_scores) for score in forms} == {tuple(step_scores("2+2?", steps))}
        assert set(forms) == {min(step_scores("2+2?", steps))}
        assert (forms[0].worker, forms[0].recipe) == ("pod-0", "MathShepherd")
        assert {request.path for request in running[0].seen} == {"/v1/rewards"}
        assert running[0].seen[0].body["model"] == "prm"
        assert client.workers() == (running[0].url,)
        assert client.in_flight() == {}
        assert repr(client) == f"RMCall('prm', endpoints=['{running[0].url}'])"


def test_called_as_openr_calls_it() -> None:
    with workers(scoring) as running, rm(running) as client:
        one, other = step_scores("q", ["a", "b"]), step_scores("r", ["c"])
        assert client(("q", "a;b"), lm_step_tag=";") == one
        assert client([("q", "a;b"), ("r", "c")], lm_step_tag=";") == [one, other]
        assert client([("q", "a\n\nb")]) == [one]
        assert client(("q", "a\n\nb")) == one
        assert client([]) == []
        assert type(one[0]) is type(client(("q", "a"))[0]) is float
        with pytest.raises(ScoreError, match="input 1: it cannot be scored"):
            client([("q", "a"), ("q", "FAIL")])
        with pytest.raises(ScoreError, match="cannot be scored"):
            client(("q", ""))


def test_aggregation_of_the_model_the_client_or_the_call() -> None:
    given = ("q", ["a", "b", "c"])
    scores = step_scores(*given)
    with workers(scoring) as running, rm(running) as plain, rm(running, aggregation="sum") as own:
        assert plain.score(given) == min(scores)
        assert own.score(given) == pytest.approx(sum(scores))
        last = own.score([given], aggregation="last")[0]
        assert (last, last.aggregation) == (scores[-1], "last")
        assert own(("q", "a\n\nb")) == scores[:2]


def test_500_answers_over_three_workers() -> None:
    inputs = batch_of(500)
    with workers(slowly(0.01), slowly(0.01), slowly(0.01)) as running, rm(running) as client:
        scores = client.score(inputs)
        assert [score.step_scores for score in scores] == expected(inputs)
        assert {score.worker for score in scores} == {"pod-0", "pod-1", "pod-2"}
        asked = [
            question for one in running for request in one.seen for question in questions(request)
        ]
        assert Counter(asked) == Counter(question for question, _ in inputs), "each once"
        assert sum(len(one.seen) for one in running) <= 12


def test_what_has_no_score_is_an_error_in_its_place() -> None:
    inputs = [("q", "a"), ("q", "FAIL"), ("q", ""), ("q", "LONG FAIL"), ("r", "a\n\nFAIL")]
    with workers(scoring) as running, rm(running) as client:
        scores = client.score(inputs, on_error="return")
        kinds = [type(one) for one in scores]
        assert kinds == [Score, ScoreError, ScoreError, InputTooLong, ScoreError]
        failed = scores[4]
        assert isinstance(failed, ScoreError)
        assert (failed.index, failed.step, failed.worker) == (4, 1, running[0].url)
        with pytest.raises(ContextTooLong, match="input 1: "):
            client.score([("q", "a"), ("q", "LONG FAIL")])
        with pytest.raises(ScoreError, match="input 0: "):
            client.score(("q", "FAIL"))
        assert isinstance(client.score(("q", "FAIL"), on_error="return"), ScoreError)
        with pytest.raises(PartialBatch, match="4 of 5 items failed") as caught:
            client.submit(inputs).result()
        with pytest.raises(ScoreError, match="input 1: "):
            list(client.submit(inputs))
        assert list(caught.value.results) == [0]
        assert sorted(caught.value.errors) == [1, 2, 3, 4]


def test_a_refused_input_does_not_take_its_request_with_it() -> None:
    async def strict(request: Request) -> Reply:
        for index, given in enumerate(request.body["inputs"]):
            if given["response"] == "bad":
                return error(400, f"inputs[{index}].response is bad", "invalid_request_error")
        return await scoring(request)

    inputs = [("q", "bad" if i in {3, 11} else f"a{i}") for i in range(16)]
    with workers(strict) as running, rm(running) as client:
        scores = client.score(inputs, on_error="return")
        wrong = {i: str(one) for i, one in enumerate(scores) if not isinstance(one, Score)}
        assert wrong == {
            3: "input 3: inputs[0].response is bad",
            11: "input 11: inputs[0].response is bad",
        }
        assert isinstance(scores[3], InvalidRequest)
        with pytest.raises(InvalidRequest, match="input 3: "):
            client.score(inputs[:8])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(error(404, "no", "model_not_found"), ModelNotServed, id="model"),
        pytest.param(error(501, "gives no rewards", "unsupported"), Unsupported, id="no-rewards"),
        pytest.param(error(500, "a bug", "internal_error"), WorkerFailed, id="500"),
        pytest.param(Reply({"hello": "world"}), WorkerFailed, id="shape"),
    ],
)
def test_an_error_of_the_worker(reply: Reply, kind: type[Exception]) -> None:
    async def behave(request: Request) -> Reply:
        return reply

    with workers(behave) as running, rm(running) as client:
        for call in (client, client.score):
            with pytest.raises(kind):
                call([("q", "a"), ("q", "b"), ("r", "c"), ("r", "d")])
        seen = len(running[0].seen)
        outcomes = client.score([("q", "a")] * 8, on_error="return")
        assert [type(one) for one in outcomes] == [kind] * 8
        assert len(running[0].seen) <= seen + 3, "it is not asked for each input again"


def test_another_revision_is_refused() -> None:
    changes: dict[str, Any] = {}

    async def behave(request: Request) -> Reply:
        return Reply(body(request, **changes))

    with workers(behave) as running, rm(running) as client:
        mixed = rm(running, allow_mixed_revisions=True)
        for one in (client, mixed):
            one.score(("q", "a"))
        for name in ("revision", "recipe_hash"):
            changes[name] = "other"
            for call in (client, client.score):
                with pytest.raises(RevisionChanged, match=r"rev-1.*new RMCall.*mixed") as caught:
                    call([("q", "a")])
                assert "other" in str(caught.value)
                assert caught.value.worker == running[0].url
            changes.pop(name)
        assert client.score(("q", "a")).revision == "rev-1"
        changes["revision"] = "other"
        assert mixed.score(("q", "a")).revision == "other"
        with pytest.raises(RevisionChanged):
            asyncio.run(client.aio.score(("q", "a")))
        with rm(running) as fresh:
            assert fresh.score(("q", "a")).revision == "other"
        mixed.close()


def test_nothing_to_score() -> None:
    with RMCall("prm", endpoints=["http://127.0.0.1:9"]) as client:
        nothing: list[tuple[str, str]] = []
        assert client.score(nothing) == []
        assert client.submit(nothing).result() == []


def test_progress_counts_the_answers(capfd: pytest.CaptureFixture[str]) -> None:
    with workers(scoring) as running, rm(running, progress=True) as client:
        client.score(batch_of(20))
    assert "20/20" in capfd.readouterr().err


def test_nothing_listens_there() -> None:
    gone = StubWorker(scoring)
    gone.stop()
    with rm([gone], timeout=0.5) as client:
        with pytest.raises(Exception, match=gone.url):
            client.score(("q", "a"))
        errors = client.score([("q", "a"), ("r", "b")], on_error="return")
        assert all(gone.url in str(one) for one in errors)
