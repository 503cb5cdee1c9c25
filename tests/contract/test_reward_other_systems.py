"""The bytes of the routes of OpenR and OpenRLHF, over real sockets."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelworker_api.rewards import ScoreType
from tests.fake_reward_worker import score_of, step_scores
from tests.reward_server_support import QUERY, VALUE, refused, reward_server, send
from tests.server_support import Running


@pytest.fixture(scope="module")
def process() -> Iterator[Running]:
    with reward_server(ScoreType.PROCESS) as running:
        yield running


@pytest.fixture(scope="module")
def outcome() -> Iterator[Running]:
    with reward_server(ScoreType.OUTCOME) as running:
        yield running


# --- OpenR ---------------------------------------------------------------------------

ONE = [score_of("s1 #"), score_of("s1 # s2 #")]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        pytest.param("s1 # s2 # ", ONE, id="text"),
        pytest.param(["s1 # s2 # "], [ONE], id="one-in-a-list"),
        pytest.param(["s1 #", "s1 # s2 # "], [ONE[:1], ONE], id="several-in-order"),
        pytest.param("no tag", [], id="without-a-tag"),
        pytest.param("", [], id="nothing"),
        pytest.param(["no tag"], [[]], id="without-a-tag-in-a-list"),
        pytest.param(["", "s1 #", "x"], [[], ONE[:1], []], id="among-others"),
        pytest.param([], [], id="empty-list"),
    ],
)
def test_openr_gets_a_list_for_each_text(process: Running, given: Any, value: Any) -> None:
    response = httpx.post(process.url + VALUE, json={"input_str": given, "unknown": 1})
    assert response.status_code == 200
    expected = {"input": given, "value": value}
    assert response.content == json.dumps(expected, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("given", "status", "param", "kind"),
    [
        pytest.param(["ok #", "infinity #"], 500, "input_str[1]", "non_finite_score", id="score"),
        pytest.param("memory #", 500, "input_str", "internal_error", id="memory"),
        pytest.param(
            ["a" * 600 + "#"], 400, "input_str[0]", "context_length_exceeded", id="too-long"
        ),
        pytest.param("a" * 600 + "#", 400, "input_str", "context_length_exceeded", id="long-text"),
        pytest.param(["a"] * 2049, 400, "input_str", "invalid_request_error", id="2049-texts"),
        pytest.param(3, 400, "input_str", "invalid_request_error", id="number"),
        pytest.param([3], 400, "input_str", "invalid_request_error", id="list-of-numbers"),
        pytest.param(None, 400, "input_str", "invalid_request_error", id="null"),
    ],
)
def test_openr_gets_no_value_for_a_failure(
    process: Running, given: Any, status: int, param: str, kind: str
) -> None:
    error = refused(process, VALUE, {"input_str": given}, status)
    assert (error.param, error.type) == (param, kind)
    assert param in error.message


def test_openrs_route_wants_a_model_that_scores_steps(outcome: Running) -> None:
    assert "/v1/rewards" in refused(outcome, VALUE, {"input_str": []}, 501).message


def test_openrs_route_takes_the_served_model_alone(process: Running) -> None:
    assert send(process, VALUE, {"model": "org/prm-7b", "input_str": "x"})["value"] == []
    assert refused(process, VALUE, {"model": "x", "input_str": "x"}, 404).param == "model"


# --- OpenRLHF ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="query-alone"),
        pytest.param({"prompts": ["qa", "q"], "labels": [None, "4"]}, id="as-openrlhf-sends-it"),
        pytest.param({"prompts": None, "labels": None, "custom": {"x": 1}}, id="unknown-fields"),
        pytest.param({"labels": [4, {"answer": "4"}]}, id="labels-of-any-type"),
        pytest.param({"labels": "4"}, id="one-label"),
    ],
)
def test_openrlhf_gets_a_reward_for_each_query(outcome: Running, more: dict[str, Any]) -> None:
    queries = ["qa</s>", "qé</s>"]
    response = httpx.post(outcome.url + QUERY, json={"query": queries, **more})
    values = [score_of(query) for query in queries]
    expected = {"rewards": values, "scores": values, "extra_logs": {"tokens": [6.0, 7.0]}}
    assert response.content == json.dumps(expected, separators=(",", ":")).encode()


def test_openrlhfs_other_workers_get_no_query(process: Running, outcome: Running) -> None:
    nothing = {"rewards": [], "scores": [], "extra_logs": {"tokens": []}}
    for server in (process, outcome):
        assert send(server, QUERY, {"query": [], "prompts": [], "labels": []}) == nothing


def test_a_model_of_steps_gives_openrlhf_their_aggregate(process: Running) -> None:
    body = {"query": ["1+1?a\n\nb", "2?c"], "prompts": ["1+1?", "2?"]}
    expected = [min(step_scores("1+1?", ["a", "b"])), *step_scores("2?", ["c"])]
    assert send(process, QUERY, body)["rewards"] == expected


@pytest.mark.parametrize(
    ("query", "prompts", "status", "param", "kind"),
    [
        pytest.param(["qa"], None, 400, "prompts", "invalid_request_error", id="no-prompts"),
        pytest.param(["qa"], ["q", "q"], 400, "prompts", "invalid_request_error", id="uneven"),
        pytest.param(
            ["qa", "qb"], ["q", "x"], 400, "query[1]", "invalid_request_error", id="no-prefix"
        ),
        pytest.param(["qa", "q \n"], ["q", "q"], 400, "query[1]", "no_steps", id="no-answer"),
        pytest.param(["q#"], ["q"], 400, "query[0]", "step_mismatch", id="tag-in-a-step"),
        pytest.param(
            ["qa", "q" + "a" * 600],
            ["q", "q"],
            400,
            "query[1]",
            "context_length_exceeded",
            id="long",
        ),
        pytest.param(["qinfinity"], ["q"], 500, "query[0]", "non_finite_score", id="score"),
    ],
)
def test_a_query_without_a_reward_fails_the_request(
    *, process: Running, query: Any, prompts: Any, status: int, param: str, kind: str
) -> None:
    error = refused(process, QUERY, {"query": query, "prompts": prompts}, status)
    assert (error.param, error.type) == (param, kind)
    assert param in error.message


@pytest.mark.parametrize(
    ("query", "param"),
    [
        pytest.param("text", "query", id="text"),
        pytest.param(None, "query", id="null"),
        pytest.param([1], "query", id="number"),
        pytest.param(["a", ""], "query[1]", id="empty-text"),
        pytest.param(["a"] * 2049, "query", id="2049-queries"),
    ],
)
def test_a_wrong_query_is_named(outcome: Running, query: Any, param: str) -> None:
    error = refused(outcome, QUERY, {"query": query})
    assert error.param == param
    assert param in error.message
