"""Reward requests that are put together wrongly: each is refused with the field at fault."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelworker_api.rewards import ScoreType
from tests.reward_server_support import QUERY, REWARDS, VALUE, refused, reward_server
from tests.server_support import Running


@pytest.fixture(scope="module")
def process() -> Iterator[Running]:
    with reward_server(ScoreType.PROCESS) as running:
        yield running


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a\n\nb"}


def bad(given: Any, field: str, says: str, *, id: str) -> Any:  # noqa: A002
    """An input that refuses the request; it is the second of two."""
    return pytest.param(given, f"inputs[1]{field}", says, id=id)


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        bad({}, "", "nothing to score", id="nothing"),
        bad({"question": "q"}, ".response", "has question", id="question-alone"),
        bad({"response": "a"}, ".question", "has response", id="response-alone"),
        bad({"steps": ["a"]}, ".question", "has steps", id="steps-alone"),
        bad({"separator": ";"}, "", "nothing to score", id="separator-alone"),
        bad({"question": "q", "response": "a", "steps": ["a"]}, ".steps", "either", id="both"),
        bad({"question": "q", "messages": [USER, ANSWER]}, "", "messages alone", id="and-messages"),
        bad({"messages": [USER, ANSWER], "steps": ["a"]}, "", "messages alone", id="and-steps"),
        bad({"question": "q", "text": "a"}, "", "text alone", id="question-and-text"),
        bad({"question": "q", "steps": []}, ".steps", "at least one", id="no-step"),
        bad({"question": "q", "steps": ["a", " \n"]}, ".steps", "[1] is blank", id="blank-step"),
        bad({"question": "q", "steps": "a"}, ".steps", "list", id="steps-text"),
        bad({"question": "q", "steps": [1]}, ".steps", "string", id="step-number"),
        bad({"question": "q", "steps": ["a"] * 4097}, ".steps", "4096", id="4097-steps"),
        bad({"question": 1, "response": "a"}, ".question", "string", id="question-number"),
        bad({"question": "q", "response": ["a"]}, ".response", "string", id="response-list"),
        bad(
            {"question": "q", "response": "a", "separator": ""},
            ".separator",
            "leave it out",
            id="separator-empty",
        ),
        bad({"text": "a", "separator": ";"}, ".separator", "no use", id="separator-with-text"),
        bad({"text": ""}, ".text", "empty", id="text-empty"),
        bad({"messages": []}, ".messages", "empty", id="messages-empty"),
        bad({"messages": "hi"}, ".messages", "list", id="messages-text"),
        bad({"messages": [USER]}, ".messages", "must end", id="messages-end-with-the-user"),
        bad({"messages": [ANSWER]}, ".messages", "must end", id="messages-without-a-user"),
        bad({"messages": [USER, ANSWER, ANSWER]}, ".messages", "must end", id="two-answers"),
        bad({"messages": [{"role": "user"}, ANSWER]}, ".messages", "[0].content", id="no-content"),
        bad(
            {"messages": [USER, {**ANSWER, "tool_calls": [{}]}]},
            ".messages",
            "tool_calls",
            id="tool-calls",
        ),
        bad("text", "", "must be an object", id="no-object"),
        bad(None, "", "must be an object", id="null"),
    ],
)
def test_an_input_put_together_wrongly_refuses_the_request(
    process: Running, given: Any, param: str, says: str
) -> None:
    error = refused(process, REWARDS, {"inputs": [{"question": "q", "response": "a"}, given]})
    assert (error.type in {"invalid_request_error", "unsupported"}, error.param) == (True, param)
    assert says in error.message
    assert "inputs[1]" in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        pytest.param({}, 400, "inputs", "required", id="no-inputs"),
        pytest.param({"inputs": None}, 400, "inputs", "list", id="null"),
        pytest.param({"inputs": {}}, 400, "inputs", "list", id="object"),
        pytest.param({"inputs": [{}] * 2049}, 400, "inputs", "2048", id="2049-inputs"),
        pytest.param({"inputs": [], "aggregation": "max"}, 400, "aggregation", "'min'", id="max"),
        pytest.param({"inputs": [], "model": "policy"}, 404, "model", "lab/prm", id="model"),
    ],
)
def test_a_wrong_request_is_explained(
    *, process: Running, body: dict[str, Any], status: int, param: str, says: str
) -> None:
    error = refused(process, REWARDS, body, status)
    assert error.param == param
    assert says in error.message


@pytest.mark.parametrize("path", [VALUE, QUERY, REWARDS])
def test_a_long_body_is_413_and_a_wrong_type_415(process: Running, path: str) -> None:
    assert "limit" in refused(process, path, {"text": "a" * 70_000}, 413).message
    response = httpx.post(process.url + path, content=b"{}")
    assert response.status_code == 415
    assert httpx.get(process.url + path).status_code == 405
