"""The reward routes in process: which worker has them, how work is bounded, counted and told."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_api import rewards, wire
from modelworker_api.rewards import ScoreType
from modelworker_server.errors import NonFiniteScore, Unavailable, WorkerError
from modelworker_server.scoring.values import Layout, Scores, StepScore
from tests.fake_reward_worker import FakeRewardWorker, step_scores
from tests.fake_worker import FakeWorker
from tests.server_support import call, client_for, post, state_for
from tests.support import eventually

VALUE = "/worker_value_inference"
QUERY = "/get_reward"
REWARDS = "/v1/rewards"
GOOD: dict[str, dict[str, Any]] = {
    REWARDS: {
        "inputs": [{"question": "q", "steps": ["a", "b"]}, {"question": "q", "response": "c"}]
    },
    VALUE: {"input_str": ["a # b #", "c #"]},
    QUERY: {"query": ["qa\n\nb", "qc"], "prompts": ["q", "q"]},
}
EMPTY: dict[str, dict[str, Any]] = {
    REWARDS: {"inputs": []},
    VALUE: {"input_str": []},
    QUERY: {"query": []},
}
CHAT = [{"role": "user", "content": "hi"}]


def answered(path: str, body: Any, worker: FakeWorker, **state: Any) -> httpx.Response:
    return call(lambda client: client.post(path, json=body), worker, **state)


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("bodies", [GOOD, EMPTY], ids=["some", "none"])
def test_a_language_model_gives_no_rewards(path: str, bodies: dict[str, Any]) -> None:
    response = answered(path, bodies[path], FakeWorker())
    assert response.status_code == 501
    assert response.json()["error"]["type"] == "unsupported"
    assert "call a RewardModel" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/completions", {"prompt": "a"}, id="completion"),
        pytest.param("/v1/completions", {"prompt": "a", "stream": True}, id="completion-stream"),
        pytest.param("/v1/chat/completions", {"messages": CHAT}, id="chat"),
        pytest.param("/v1/chat/completions", {"messages": CHAT, "stream": True}, id="chat-stream"),
        pytest.param("/v1/embeddings", {"input": "a"}, id="embedding"),
    ],
)
def test_a_reward_model_generates_nothing(path: str, body: dict[str, Any]) -> None:
    response = answered(path, body, FakeRewardWorker())
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["type"] == "unsupported"


def test_a_reward_model_has_its_names_and_tokens() -> None:
    assert post("/tokenize", {"prompt": "abc"}, FakeRewardWorker())["count"] == 3
    models = call(lambda client: client.get("/v1/models"), FakeRewardWorker()).json()
    assert [model["id"] for model in models["data"]] == ["prm", "lab/prm", "org/prm-7b"]


@pytest.mark.parametrize("path", GOOD)
def test_nothing_is_scored_before_the_model_is_there(path: str) -> None:
    response = answered(path, GOOD[path], FakeRewardWorker(), ready=False)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable"


@pytest.mark.parametrize(
    ("worker", "ready", "expected"),
    [
        pytest.param(
            FakeRewardWorker(),
            True,
            wire.ScoringReport(family="MathPSA", recipe_hash="0123456789abcdef", compared=True),
            id="reward-model",
        ),
        pytest.param(FakeRewardWorker(), False, None, id="reward-model-that-loads"),
        pytest.param(FakeWorker(), True, None, id="language-model"),
    ],
)
def test_the_heartbeat_of_a_reward_model_says_how_it_scores(
    worker: FakeWorker, ready: bool, expected: wire.ScoringReport | None
) -> None:
    async def beat() -> wire.Heartbeat:
        return state_for(worker, ready=ready).heartbeat()

    sent = asyncio.run(beat()).model_dump_json()
    assert wire.Heartbeat.model_validate_json(sent).scoring == expected


def test_metrics_count_inputs_tokens_and_failures() -> None:
    async def run() -> str:
        worker = FakeRewardWorker()
        worker.failures = {"bad": NonFiniteScore("step 0 has the score nan", step=0)}
        inputs = [{"question": "q", "response": text} for text in ("a", "", "#", "bad", "bc")]
        async with client_for(state_for(worker)) as client:
            await client.post(REWARDS, json={"inputs": inputs})
            await client.post(VALUE, json={"input_str": ["a #", "no tag"]})
            await client.post(QUERY, json={"query": ["qbad"], "prompts": ["q"]})
            return (await client.get("/metrics")).text

    lines = asyncio.run(run()).splitlines()
    tokens = len("user:q|a#") + len("user:q|bc#") + len("a #")
    for line in (
        "modelworker_scored_inputs_total 3.0",
        f"modelworker_scored_tokens_total {tokens:.1f}",
        'modelworker_score_failures_total{type="no_steps"} 1.0',
        'modelworker_score_failures_total{type="step_mismatch"} 1.0',
        'modelworker_score_failures_total{type="non_finite_score"} 2.0',
        f'modelworker_requests_total{{code="200",route="{REWARDS}"}} 1.0',
        f'modelworker_requests_total{{code="500",route="{QUERY}"}} 1.0',
    ):
        assert line in lines, line


class Giving(FakeRewardWorker):
    """A worker whose scoring ends as it is told."""

    def __init__(self, result: Scores | WorkerError | Exception, count: int = 2) -> None:
        super().__init__()
        self.result = result
        self.count = count

    async def score(self, layouts: Any) -> list[Scores | WorkerError]:
        if isinstance(self.result, Scores | WorkerError):
            return [self.result] * self.count
        raise self.result


HUGE = Scores((StepScore(1e200), StepScore(1e200)))
LARGEST = Scores((StepScore(1.7e308), StepScore(1.7e308)))


@pytest.mark.parametrize(
    ("scores", "aggregation"),
    [pytest.param(HUGE, "prod", id="product"), pytest.param(LARGEST, "sum", id="sum")],
)
def test_an_aggregate_beyond_a_float_is_an_error(scores: Scores, aggregation: str) -> None:
    body = {
        "inputs": [{"question": "q", "steps": ["a", "b"]}] * 2,
        "aggregation": aggregation,
    }
    for result in post(REWARDS, body, Giving(scores))["data"]:
        assert "reward" not in result
        assert result["error"]["type"] == "non_finite_score"
        assert aggregation in result["error"]["message"]


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    ("worker", "status", "kind"),
    [
        pytest.param(Giving(Unavailable("the engine died")), 503, "unavailable", id="engine-dead"),
        pytest.param(Giving(RuntimeError("a secret text")), 500, "internal_error", id="bug"),
        pytest.param(Giving(HUGE, count=1), 500, "internal_error", id="one-result-missing"),
        pytest.param(Giving(HUGE, count=3), 500, "internal_error", id="one-result-too-many"),
        pytest.param(Giving(HUGE), 500, "internal_error", id="one-score-too-many"),
    ],
)
def test_a_failure_of_the_worker_is_no_inputs_failure(
    path: str, worker: Giving, status: int, kind: str
) -> None:
    response = answered(path, GOOD[path], worker)
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("words", "aside"),
    [pytest.param(10, False, id="short"), pytest.param(5_000, True, id="long")],
)
@pytest.mark.parametrize("path", GOOD)
def test_a_long_text_is_laid_out_beside_the_event_loop(path: str, words: int, aside: bool) -> None:
    worker = FakeRewardWorker()
    text = "text " * words
    body = {
        REWARDS: {"inputs": [{"question": "q", "response": text}]},
        VALUE: {"input_str": text + "#"},
        QUERY: {"query": [text], "prompts": ["text"]},
    }[path]
    answered(path, body, worker)
    assert worker.encoded_in
    assert worker.encoded_in.isdisjoint({threading.current_thread()}) == aside


def test_inputs_take_places_and_a_full_queue_is_429() -> None:
    async def run() -> tuple[list[int], httpx.Response, int]:
        worker = FakeRewardWorker()
        gate = asyncio.Event()
        worker.step = gate.wait
        state = state_for(worker, max_running=2, max_queued=1)
        async with client_for(state) as client:
            taken = [asyncio.create_task(client.post(REWARDS, json=GOOD[REWARDS])) for _ in "ab"]
            await asyncio.to_thread(eventually, lambda: worker.active == 2, interval=0.001)
            running = state.limiter.running
            refused = await client.post(REWARDS, json=GOOD[REWARDS])
            none = await client.post(REWARDS, json=EMPTY[REWARDS])
            gate.set()
            codes = [(await task).status_code for task in taken]
            return [*codes, none.status_code], refused, running

    codes, refused, running = asyncio.run(run())
    assert codes == [200, 200, 200]
    assert running == 1, "the two inputs of the first request fill both places"
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_the_inputs_of_a_request_are_scored_together_and_without_those_that_failed() -> None:
    worker = FakeRewardWorker()
    inputs = [{"question": "q", "response": text} for text in ("a", "", "b", "#", "c")]
    data = post(REWARDS, {"inputs": inputs}, worker)["data"]
    assert worker.batches == [["user:q|a#", "user:q|b#", "user:q|c#"]]
    assert [one.get("reward", {}).get("score") for one in data] == [
        step_scores("q", ["a"])[0],
        None,
        step_scores("q", ["b"])[0],
        None,
        step_scores("q", ["c"])[0],
    ]


def test_details_and_truncation_are_told() -> None:
    class Telling(FakeRewardWorker):
        def lay_out(self, item: Any) -> Layout:
            layout = super().lay_out(item)
            return Layout(layout.token_ids, layout.reads, layout.places, truncated=True)

        async def score(self, layouts: Any) -> list[Scores | WorkerError]:
            return [Scores((StepScore(0.5, {"redundancy": 0.25}),)) for _ in layouts]

    (result,) = post(REWARDS, {"inputs": [{"question": "q", "steps": ["a"]}]}, Telling())["data"]
    assert result["reward"]["truncated"] is True
    assert result["reward"]["steps"][0]["details"] == {"redundancy": 0.25}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
TEXT = st.text(alphabet="a#\n é", max_size=6)
INPUT = st.dictionaries(
    st.sampled_from(sorted(rewards.RewardInput.model_fields)),
    TEXT
    | st.lists(TEXT, max_size=3)
    | st.just([*CHAT, {"role": "assistant", "content": "a"}])
    | JSON,
)
SHAPES: dict[str, type[wire.Wire]] = {
    REWARDS: rewards.RewardRequest,
    VALUE: rewards.ValueInferenceRequest,
    QUERY: rewards.GetRewardRequest,
}


@settings(max_examples=400, deadline=None)
@given(data=st.data(), path=st.sampled_from(sorted(SHAPES)), kind=st.sampled_from(ScoreType))
def test_no_body_is_a_500(data: st.DataObject, path: str, kind: ScoreType) -> None:
    values = TEXT | st.lists(TEXT, max_size=3) | st.lists(INPUT, max_size=3) | JSON
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(SHAPES[path].model_fields)), values))
    # Not `json=`: httpx refuses infinity, which is one of the values to try.
    body = json.dumps(GOOD[path] | fields)
    headers = {"content-type": "application/json"}
    response = call(
        lambda client: client.post(path, content=body, headers=headers), FakeRewardWorker(kind)
    )
    allowed = {200, 400, 404} | ({501} if (path, kind) == (VALUE, ScoreType.OUTCOME) else set())
    assert response.status_code in allowed, response.text
