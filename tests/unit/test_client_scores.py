"""A score is a float that knows where it comes from."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from modelworker import Score, StepScore

STEPS = (StepScore(0.9, 0, 4, 3, 5), StepScore(0.25, 6, 9, 6, 8, {"redundancy": 0.5}))


def made(value: float = 0.25, **changes: Any) -> Score:
    facts: dict[str, Any] = {
        "steps": STEPS,
        "aggregation": "min",
        "truncated": False,
        "recipe": "MathShepherd",
        "recipe_hash": "abc",
        "revision": "rev-1",
        "token_count": 9,
        "worker": "prm-0",
    }
    return Score(value, **facts | changes)


def test_it_is_a_number_wherever_numbers_go() -> None:
    scores = [made(0.25), made(-0.5), made(1.5)]
    assert sum(scores) == 1.25
    assert max(scores) == 1.5
    assert sorted(scores) == [-0.5, 0.25, 1.5]
    assert json.dumps(scores) == "[0.25, -0.5, 1.5]"
    assert np.array(scores).dtype == np.float64
    assert f"{scores[0]:.3f} {scores[0]}" == "0.250 0.25"
    assert type(scores[0] + scores[1]) is float
    assert {scores[0]: 1}[0.25] == 1  # type: ignore[index]


def test_it_knows_its_steps() -> None:
    score = made()
    assert score.step_scores == [0.9, 0.25]
    assert float(score.steps[1]) == 0.25
    assert score.steps[1].details == {"redundancy": 0.5}
    assert repr(score) == "Score(0.25, min of [0.9, 0.25], MathShepherd)"
    assert repr(made(truncated=True)) == "Score(0.25, min of [0.9, 0.25], truncated, MathShepherd)"


@pytest.mark.parametrize("name", ["steps", "aggregation", "worker", "unknown"])
def test_it_cannot_be_changed(name: str) -> None:
    score = made()
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(score, name, "x")
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(score, name)


@pytest.mark.parametrize(
    "again",
    [
        *(
            pytest.param(lambda one, p=p: pickle.loads(pickle.dumps(one, p)), id=f"pickle-{p}")
            for p in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
    ],
)
def test_a_copy_keeps_everything(again: Any) -> None:
    score = made()
    copied = again(score)
    assert type(copied) is Score
    assert copied == score
    assert all(getattr(copied, name) == getattr(score, name) for name in Score.__slots__)
