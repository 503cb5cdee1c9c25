"""`POST /v1/rewards` over real sockets: every form of input, and what is answered to it."""

from collections.abc import Iterator
from typing import Any

import pytest

from modelworker_api.rewards import ScoreType
from tests.fake_reward_worker import answer_score, score_of, step_scores
from tests.reward_server_support import REWARDS, reward_server, send
from tests.server_support import Running


@pytest.fixture(scope="module")
def process() -> Iterator[Running]:
    with reward_server(ScoreType.PROCESS) as running:
        yield running


@pytest.fixture(scope="module")
def outcome() -> Iterator[Running]:
    with reward_server(ScoreType.OUTCOME) as running:
        yield running


def test_a_process_models_answer_says_where_each_step_is(process: Running) -> None:
    one, two = step_scores("1+1?", ["a", "bé"])
    body = {"model": "lab/prm", "inputs": [{"question": "1+1?", "response": "a\n\nbé"}]}
    assert send(process, REWARDS, body) == {
        "id": "rwd-id0",
        "object": "list",
        "created": 1_700_000_123,
        "model": "prm",
        "recipe": "MathPSA",
        "recipe_hash": "0123456789abcdef",
        "revision": "rev-1",
        "data": [
            {
                "index": 0,
                "object": "reward",
                "reward": {
                    "score": min(one, two),
                    "steps": [
                        {
                            "score": one,
                            "start_char": 0,
                            "end_char": 1,
                            "start_token": 10,
                            "end_token": 11,
                            "details": None,
                        },
                        {
                            "score": two,
                            "start_char": 3,
                            "end_char": 5,
                            "start_token": 12,
                            "end_token": 15,
                            "details": None,
                        },
                    ],
                    "aggregation": "min",
                    "truncated": False,
                    "token_count": 16,
                },
            }
        ],
        "usage": {"prompt_tokens": 16, "completion_tokens": 0, "total_tokens": 16},
    }


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a\n\nb"}


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        pytest.param({"question": "q", "response": "a\n\nb"}, ["a", "b"], id="response"),
        pytest.param(
            {"question": "q", "response": "a;b\n\n", "separator": ";"},
            ["a", "b\n\n"],
            id="own-separator",
        ),
        pytest.param({"question": "q", "steps": ["a", "b"]}, ["a", "b"], id="steps"),
        pytest.param(
            {"question": "q", "steps": ["a\n\nb", "c"]}, ["a\n\nb", "c"], id="separator-in-a-step"
        ),
        pytest.param({"messages": [USER, ANSWER]}, ["a", "b"], id="messages"),
        pytest.param(
            {"messages": [USER, {**ANSWER, "content": "a;b"}], "separator": ";"},
            ["a", "b"],
            id="messages-with-separator",
        ),
        pytest.param(
            {"messages": [USER, {**ANSWER, "content": [{"type": "text", "text": "a"}]}]},
            ["a"],
            id="parts-of-text",
        ),
        pytest.param({"question": "q", "response": "a", "text": None}, ["a"], id="null"),
        pytest.param({"question": "q", "response": "a", "colour": "red"}, ["a"], id="unknown"),
    ],
)
def test_every_form_of_input(process: Running, given: dict[str, Any], steps: list[str]) -> None:
    (result,) = send(process, REWARDS, {"inputs": [given], "stream": False})["data"]
    scores = [step["score"] for step in result["reward"]["steps"]]
    assert scores == step_scores("q", steps)


@pytest.mark.parametrize(
    ("given", "score"),
    [
        pytest.param({"text": "all of it"}, score_of("all of it"), id="text"),
        pytest.param(
            {"question": "q", "response": "a\n\nb"}, answer_score("q", "a\n\nb"), id="response"
        ),
        pytest.param(
            {"question": "q", "steps": ["a", "b"]}, answer_score("q", "a\n\nb"), id="steps"
        ),
    ],
)
def test_an_outcome_model_scores_the_whole(
    outcome: Running, given: dict[str, Any], score: float
) -> None:
    (result,) = send(outcome, REWARDS, {"inputs": [given], "aggregation": "mean"})["data"]
    assert result["reward"]["score"] == score
    assert [step["score"] for step in result["reward"]["steps"]] == [score]


def test_an_empty_list_is_answered_with_an_empty_list(process: Running) -> None:
    answer = send(process, REWARDS, {"inputs": []})
    assert answer["data"] == []
    assert answer["usage"]["prompt_tokens"] == 0


def test_an_input_that_fails_keeps_its_place_and_costs_no_other(process: Running) -> None:
    def one(response: str) -> dict[str, str]:
        return {"question": "q", "response": response}

    good = [one(f"step {number}") for number in range(3)]
    bad = [one(" \n\n "), one("a\n\n#"), one("a" * 600), one("infinity"), one("memory")]
    templated = {"text": "all of it"}
    inputs = [good[0], *bad[:2], good[1], *bad[2:], templated, good[2]]
    answer = send(process, REWARDS, {"inputs": inputs})
    data = answer["data"]
    assert [result["index"] for result in data] == list(range(9))
    assert all(("reward" in result) != ("error" in result) for result in data)
    assert {i: r["reward"]["score"] for i, r in enumerate(data) if "reward" in r} == {
        place: step_scores("q", [f"step {number}"])[0] for number, place in enumerate((0, 3, 8))
    }
    assert {
        i: (r["error"]["type"], r["error"]["step"]) for i, r in enumerate(data) if "error" in r
    } == {
        1: ("no_steps", None),
        2: ("step_mismatch", 1),
        4: ("context_length_exceeded", None),
        5: ("non_finite_score", 1),
        6: ("internal_error", None),
        7: ("invalid_request_error", None),
    }
    assert "maximum context length" in data[4]["error"]["message"]
    assert answer["usage"]["prompt_tokens"] == 3 * len("user:q|step 0#")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("min", min), ("last", lambda values: values[-1]), ("sum", sum)],
    ids=["min", "last", "sum"],
)
def test_the_callers_aggregation_is_used_and_told(
    process: Running, name: str, expected: Any
) -> None:
    body = {"inputs": [{"question": "q", "steps": ["a", "b", "c"]}], "aggregation": name}
    (result,) = send(process, REWARDS, body)["data"]
    assert result["reward"]["aggregation"] == name
    assert result["reward"]["score"] == pytest.approx(expected(step_scores("q", ["a", "b", "c"])))
