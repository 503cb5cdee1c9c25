"""RMCall against the real worker server, its model a stand-in: the two sides' contract."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from modelworker import (
    LM,
    InputTooLong,
    InvalidRequest,
    RevisionChanged,
    RMCall,
    Score,
    ScoreError,
    Unsupported,
)
from modelworker_api.rewards import ScoreType
from modelworker_server.errors import NonFiniteScore
from tests.fake_reward_worker import INFO, TAG, FakeRewardWorker, answer_score, step_scores
from tests.fake_worker import FakeWorker
from tests.server_support import Running, running_server

USER = {"role": "user", "content": "2+2?"}
BODY_BYTES = 8 * 1024 * 1024


@contextmanager
def served(*fakes: FakeWorker, **limits: Any) -> Iterator[list[Running]]:
    """A server for each worker."""
    with ExitStack() as stack:
        options = {"max_body_bytes": BODY_BYTES, **limits}
        yield [stack.enter_context(running_server(fake, **options)) for fake in fakes]


@contextmanager
def client_of(running: list[Running], **options: Any) -> Iterator[RMCall]:
    with RMCall("prm", endpoints=[one.url for one in running], **options) as client:
        yield client


def test_one_answer_in_every_form() -> None:
    steps = ["one", "two"]
    expected = step_scores("2+2?", steps)
    with served(FakeRewardWorker()) as running, client_of(running) as client:
        for score in (
            client.score(("2+2?", "one\n\ntwo")),
            client.score(("2+2?", steps)),
            client.score(("2+2?", "one;two"), separator=";"),
            client.score([USER, {"role": "assistant", "content": "one\n\ntwo"}]),
        ):
            assert score.step_scores == expected
            assert score == min(expected)
            assert (score.aggregation, score.truncated) == ("min", False)
            assert (score.recipe, score.revision) == ("MathPSA", INFO.revision)
            assert score.token_count == sum(map(len, ["user:2+2?|", *steps, TAG, TAG]))
        assert score.steps[1].end_char == len("one\n\ntwo")
        assert client.score(("2+2?", steps), aggregation="last") == expected[-1]
        assert client([("2+2?", "one\n\ntwo")]) == [expected]
        assert client(("2+2?", "one;two;"), lm_step_tag=";") == expected


def test_a_model_that_scores_whole_answers() -> None:
    with served(FakeRewardWorker(ScoreType.OUTCOME)) as running, client_of(running) as client:
        score = client.score(("q", "one\n\ntwo"))
        assert score == answer_score("q", "one\n\ntwo")
        assert score.step_scores == [score]
        assert len(client.score(("q", ["one", "two"])).steps) == 1


def test_answers_of_mixed_lengths_over_three_servers() -> None:
    inputs = [
        (f"q{i // 5}", [f"{i}.{j}" + "x" * (i % 11 * 7) for j in range(1 + i % 4)])
        for i in range(500)
    ]
    fakes = [FakeRewardWorker() for _ in range(3)]
    with served(*fakes, max_running=64) as running, client_of(running) as client:
        scores = client.score(inputs)
        assert [score.step_scores for score in scores] == [step_scores(*one) for one in inputs]
        assert all(fake.started for fake in fakes)


def test_what_has_no_score_is_an_error_in_its_place() -> None:
    fake = FakeRewardWorker()
    fake.failures = {"nan": NonFiniteScore("step 1 gave NaN", step=1)}
    inputs: list[Any] = [
        ("q", "one"),
        ("q", ""),
        ("q", ["one", f"two{TAG}"]),
        ("q", "x" * 1000),
        ("q", ["one", "nan"]),
        ("q", "two"),
    ]
    with served(fake) as running, client_of(running) as client:
        scores = client.score(inputs, on_error="return")
        assert [type(one) for one in scores] == [
            *(Score, ScoreError, ScoreError),
            *(InputTooLong, ScoreError, Score),
        ]
        told = [(one.index, one.step, one.type) for one in scores if isinstance(one, ScoreError)]
        assert told == [
            (1, None, "no_steps"),
            (2, 1, "step_mismatch"),
            (3, None, "context_length_exceeded"),
            (4, 1, "non_finite_score"),
        ]
        for index, kind in ((1, ScoreError), (3, InputTooLong)):
            with pytest.raises(kind, match=f"^input {index}: "):
                client.score(inputs[:1] * index + [inputs[index]])


def test_a_body_beyond_the_servers_limit_is_cut_further() -> None:
    inputs = [("q", ["a" * 200, f"{i}"]) for i in range(40)]
    with (
        served(FakeRewardWorker(), max_body_bytes=4096) as running,
        client_of(running) as client,
    ):
        assert [one.step_scores for one in client.score(inputs)] == [
            step_scores(*one) for one in inputs
        ]


def test_an_answer_beyond_the_servers_limit_is_refused_alone() -> None:
    inputs = [("q", "one"), ("q", "x" * (BODY_BYTES + 1)), ("q", "two")]
    with served(FakeRewardWorker()) as running, client_of(running) as client:
        first, refused, last = client.score(inputs, on_error="return", timeout=10)
        assert (type(first), type(last)) == (Score, Score)
        assert isinstance(refused, InvalidRequest)
        assert str(BODY_BYTES) in str(refused)


def test_servers_with_another_revision() -> None:
    old, new = FakeRewardWorker(), FakeRewardWorker(revision="rev-2")
    with served(old, new) as running, client_of(running[:1]) as client:
        client.score(("q", "a"))
        with client_of(running) as mixed:
            outcomes = mixed.score([("q", f"a{i}") for i in range(8)], on_error="return")
        kinds = {type(one) for one in outcomes}
        assert kinds == {Score, RevisionChanged}
        assert len({one.revision for one in outcomes if isinstance(one, Score)}) == 1
        with client_of(running, allow_mixed_revisions=True) as any_revision:
            scores = any_revision.score([("q", f"a{i}") for i in range(8)])
        assert {score.revision for score in scores} == {"rev-1", "rev-2"}


def test_cancelling_ends_the_work_on_the_server() -> None:
    fake = FakeRewardWorker()
    fake.step = lambda: asyncio.sleep(60)
    with served(fake) as running, client_of(running) as client:
        batch = client.submit([("q", "a"), ("r", "b")])

        async def until(count: int, what: str) -> None:
            async with asyncio.timeout(10):
                while getattr(fake, what) != count:  # noqa: ASYNC110 - the fake has no event
                    await asyncio.sleep(0.005)

        asyncio.run(until(1, "started"))
        batch.cancel()
        asyncio.run(until(1, "cancelled"))


def test_the_wrong_kind_of_worker() -> None:
    with served(FakeWorker(), FakeRewardWorker()) as (language, reward):
        with (
            RMCall("policy", endpoints=[language.url]) as client,
            pytest.raises(Unsupported, match="call a RewardModel"),
        ):
            client.score(("q", "a"))
        with (
            LM("prm", endpoints=[reward.url]) as lm,
            pytest.raises(Unsupported, match="call a ModelWorker"),
        ):
            lm.generate("x")
