"""From rows to scores."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_server.errors import NonFiniteScore
from modelworker_server.scoring.families.links import (
    Accumulated,
    Gated,
    Link,
    Logistic,
    Margin,
    Plain,
    Probability,
    Validity,
    sigmoid,
    softmax,
)
from modelworker_server.scoring.values import Layout, Place, Row

FINITE = st.floats(min_value=-1e30, max_value=1e30)


def layout(*reads: int) -> Layout:
    """A layout whose places use these reads."""
    return Layout(
        token_ids=tuple(range(20)),
        reads=tuple(range(max(reads) + 1)),
        places=tuple(Place(read, (0, 1), (0, 1)) for read in reads),
    )


def values(link: Link, where: Layout, rows: Sequence[Row]) -> list[float]:
    return [score.value for score in link.scores(where, rows)]


@pytest.mark.parametrize(
    ("link", "row", "value"),
    [
        pytest.param(Probability(0, 2), (math.log(3), 0.0), 0.75, id="first-candidate"),
        pytest.param(Probability(1, 2), (0.0, math.log(3)), 0.75, id="label-1"),
        pytest.param(Probability(2, 3), (0.0, 0.0, 0.0), 1 / 3, id="label-of-three"),
        pytest.param(Probability(0, 2), (1e4, -1e4), 1.0, id="large-logits"),
        pytest.param(Probability(0, 2), (-1e4, 1e4), 0.0, id="small-logits"),
        pytest.param(Margin(1), (0.0, math.log(3)), 0.5, id="p1-minus-p0"),
        pytest.param(Margin(0), (0.0, math.log(3)), -0.5, id="p0-minus-p1"),
        pytest.param(Logistic(), (0.0,), 0.5, id="sigmoid"),
        pytest.param(Logistic(index=1, width=2), (9.0, -math.log(3)), 0.25, id="sigmoid-of-label"),
        pytest.param(Logistic(), (-1e4,), 0.0, id="sigmoid-far-below"),
        pytest.param(Logistic(), (1e4,), 1.0, id="sigmoid-far-above"),
        pytest.param(Plain(), (-12.5,), -12.5, id="plain"),
        pytest.param(Plain(mean=0.5, std=2.0), (4.5,), 2.0, id="normalised"),
        pytest.param(Validity(), (math.log(2), 0.0, 0.0), 0.5, id="validity"),
    ],
)
def test_row_becomes_score(link: Link, row: Row, value: float) -> None:
    assert values(link, layout(0), [row]) == [pytest.approx(value, abs=1e-12)]


def test_validity_tells_the_redundancy() -> None:
    (score,) = Validity().scores(layout(0), [(0.0, math.log(2), 0.0)])
    assert score.value == pytest.approx(0.75)
    assert score.details is not None
    assert score.details["redundancy"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("cumulative", "expected"),
    [
        pytest.param(True, [0.3, 0.6, 0.6], id="q"),
        pytest.param(False, [0.3, 0.3, 0.0], id="r"),
    ],
)
def test_implicit_rewards_sum_up_to_each_place(cumulative: bool, expected: list[float]) -> None:
    rows = [(1.0,), (2.0,), (4.0,), (-1.0,)]
    link = Accumulated(beta=0.1, cumulative=cumulative)
    assert values(link, layout(1, 3, 3), rows) == pytest.approx(expected)


def test_gate_of_the_first_row_weighs_the_rewards_of_the_last() -> None:
    where = Layout(tuple(range(9)), reads=(3, 8), places=(Place(1, (0, 1), (4, 8)),))
    gate = (9.0, 9.0, 9.0, 9.0, 0.25, 0.75)
    last = (1.0, 2.0, 10.0, 20.0, 9.0, 9.0)
    (score,) = Gated().scores(where, [gate, last])
    assert score.value == pytest.approx(0.25 * 10 + 0.75 * 20)
    assert score.details == {"objective_0": 1.0, "objective_1": 2.0}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("link", "width"),
    [
        pytest.param(Probability(0, 2), 2, id="probability"),
        pytest.param(Margin(1), 2, id="margin"),
        pytest.param(Logistic(), 1, id="logistic"),
        pytest.param(Plain(), 1, id="plain"),
        pytest.param(Validity(), 3, id="validity"),
        pytest.param(Accumulated(0.1), 1, id="accumulated"),
    ],
)
def test_non_finite_row_names_its_step(link: Link, width: int, wrong: float) -> None:
    fine = (0.0,) * width
    with pytest.raises(NonFiniteScore, match="step 1") as caught:
        link.scores(layout(0, 1, 2), [fine, (*fine[:-1], wrong), fine])
    assert caught.value.step == 1


def test_non_finite_row_between_two_places_is_the_later_ones() -> None:
    with pytest.raises(NonFiniteScore, match="step 1"):
        Accumulated(0.1).scores(layout(0, 2), [(0.0,), (math.nan,), (0.0,)])


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(Probability(0, 2), id="probability"),
        pytest.param(Logistic(), id="logistic"),
        pytest.param(Accumulated(0.1), id="accumulated"),
        pytest.param(Gated(), id="gated"),
    ],
)
def test_row_of_another_width_is_a_bug(link: Link) -> None:
    with pytest.raises(ValueError, match="row of 4 numbers"):
        link.scores(layout(0), [(1.0, 2.0, 3.0, 4.0)])


@given(st.lists(FINITE, min_size=1, max_size=5))
def test_softmax_is_a_distribution(row: list[float]) -> None:
    probabilities = softmax(row)
    assert math.fsum(probabilities) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in probabilities)


@given(FINITE)
def test_sigmoid_is_symmetric(logit: float) -> None:
    assert sigmoid(logit) == pytest.approx(1 - sigmoid(-logit), abs=1e-15)
