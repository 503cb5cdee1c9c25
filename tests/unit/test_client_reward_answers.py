"""What workers say of answers -> scores, or errors; never a made-up number."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from modelworker import (
    ContextTooLong,
    InputTooLong,
    InvalidRequest,
    ModelWorkerError,
    PartialBatch,
    Score,
    ScoreError,
    WorkerFailed,
    _reward_answers,
    _score_inputs,
)
from modelworker._answers import Answer
from tests.client_reward_support import RECIPE_HASH, REVISION, body, score_of
from tests.client_support import Request

URL = "http://10.0.0.1:8000"
INPUTS = [("q", ["a", "b"]), ("q", "c"), ("r", ["d FAIL"])]
ITEMS = _score_inputs.checked(INPUTS)[1]
PAYLOAD = body(
    Request("/v1/rewards", {}, _score_inputs.request(ITEMS, model="m", aggregation=None))
)


def scores(payload: Any, worker: str | None = "prm-0") -> list[Score | ScoreError]:
    return _reward_answers.scores(Answer(payload, URL, worker), ITEMS, (7, 3, 5))


def test_scores_and_errors_in_order() -> None:
    first, second, failed = scores(PAYLOAD)
    assert isinstance(first, Score)
    assert first.step_scores == [score_of("q", "a"), score_of("q", "b")]
    assert first == min(first.step_scores)
    assert (first.steps[1].start_char, first.steps[1].end_token) == (1, 2)
    assert (first.aggregation, first.truncated, first.token_count) == ("min", False, 7)
    assert (first.recipe, first.recipe_hash) == ("MathShepherd", RECIPE_HASH)
    assert (first.revision, first.worker) == (REVISION, "prm-0")
    assert second == score_of("q", "c")
    assert isinstance(failed, ScoreError)
    assert (failed.index, failed.step, failed.type) == (5, 0, "step_mismatch")
    assert str(failed) == "input 5: it cannot be scored"
    assert failed.worker == URL


def test_a_worker_without_a_name_is_its_url() -> None:
    first, *_ = scores(PAYLOAD, worker=None)
    assert isinstance(first, Score)
    assert first.worker == URL


def test_an_outcome_models_one_score_stands_for_all_steps() -> None:
    payload = copy.deepcopy(PAYLOAD)
    payload["data"][0]["reward"]["steps"].pop()
    first, *_ = scores(payload)
    assert isinstance(first, Score)
    assert len(first.steps) == 1


def test_details_are_kept() -> None:
    payload = copy.deepcopy(PAYLOAD)
    payload["data"][0]["reward"]["steps"][0]["details"] = {"redundancy": 0.25}
    first, *_ = scores(payload)
    assert isinstance(first, Score)
    assert first.steps[0].details == {"redundancy": 0.25}


def first_reward(payload: Any) -> Any:
    return payload["data"][0]["reward"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda p: first_reward(p).update(score=math.nan), id="nan"),
        pytest.param(lambda p: first_reward(p).update(score=math.inf), id="infinite"),
        pytest.param(lambda p: first_reward(p).update(score=None), id="null"),
        pytest.param(lambda p: first_reward(p).update(score="0.5"), id="text"),
        pytest.param(lambda p: first_reward(p).update(score=True), id="bool"),
        pytest.param(lambda p: first_reward(p).pop("score"), id="no-score"),
        pytest.param(lambda p: first_reward(p)["steps"][1].update(score=math.nan), id="step-nan"),
        pytest.param(lambda p: first_reward(p)["steps"][1].pop("score"), id="step-without-score"),
        pytest.param(lambda p: first_reward(p)["steps"].append({"score": 1.0}), id="third-step"),
        pytest.param(
            lambda p: first_reward(p)["steps"].append(first_reward(p)["steps"][0]), id="step-twice"
        ),
        pytest.param(lambda p: first_reward(p).update(steps=[]), id="no-steps"),
        pytest.param(lambda p: first_reward(p).pop("aggregation"), id="no-aggregation"),
        pytest.param(lambda p: p["data"][0].pop("reward"), id="neither"),
        pytest.param(lambda p: p["data"][2].update(reward=first_reward(p)), id="both"),
        pytest.param(lambda p: p["data"].pop(), id="too-few"),
        pytest.param(lambda p: p["data"].append(p["data"][0] | {"index": 3}), id="too-many"),
        pytest.param(lambda p: p["data"].reverse(), id="order"),
        pytest.param(lambda p: p["data"].__setitem__(1, p["data"][0]), id="one-twice"),
        pytest.param(lambda p: p["data"][1].pop("index"), id="no-index"),
        pytest.param(lambda p: p.pop("data"), id="no-data"),
        pytest.param(lambda p: p.update(data=None), id="data-null"),
        pytest.param(lambda p: p.pop("recipe"), id="no-recipe"),
        pytest.param(lambda p: p.update(revision=None), id="revision-null"),
        pytest.param(lambda p: p["data"][2]["error"].pop("message"), id="error-without-words"),
    ],
)
def test_what_does_not_fit_is_an_error(spoil: Callable[[Any], object]) -> None:
    payload = copy.deepcopy(PAYLOAD)
    spoil(payload)
    with pytest.raises(WorkerFailed, match="does not fit") as caught:
        scores(payload)
    assert caught.value.worker == URL


@pytest.mark.parametrize("payload", [None, "text", [], 3], ids=str)
def test_no_answer_at_all(payload: Any) -> None:
    for read in (scores, lambda p: _reward_answers.model_of(Answer(p, URL))):
        with pytest.raises(WorkerFailed, match="does not fit"):
            read(payload)


def test_an_input_that_is_too_long_can_be_caught_as_such() -> None:
    payload = copy.deepcopy(PAYLOAD)
    payload["data"][2]["error"] = {"type": "context_length_exceeded", "message": "too long"}
    *_, failed = scores(payload)
    assert type(failed) is InputTooLong
    assert isinstance(failed, ContextTooLong | InvalidRequest)
    assert (failed.index, failed.step) == (5, None)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ScoreError("input 5: no", 5, 2, "step_mismatch"), id="score-error"),
        pytest.param(InputTooLong("input 5: no", 5, None, "context_length_exceeded"), id="long"),
        pytest.param(PartialBatch("1 of 2", {0: 1.0}, {}), id="partial-batch"),
    ],
)
def test_errors_survive_pickling(error: ModelWorkerError) -> None:
    error.worker = URL
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert (str(copied), vars(copied)) == (str(error), vars(error))
