"""Splitting responses into steps, and aggregating scores."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_api.rewards import Aggregation
from modelworker_server.scoring.steps import aggregate, item_from_steps, split

CONTEXT = (("user", "1 + 1?"),)


@pytest.mark.parametrize(
    ("response", "separator", "steps"),
    [
        pytest.param("a\n\nb", "\n\n", ["a", "b"], id="two"),
        pytest.param("a", "\n\n", ["a"], id="one"),
        pytest.param("\n\na\n\nb\n\n", "\n\n", ["a", "b"], id="separator-at-both-ends"),
        pytest.param("a\n\n \n\nb", "\n\n", ["a", "b"], id="blank-piece-is-no-step"),
        pytest.param("a\n\n\nb", "\n\n", ["a", "\nb"], id="pieces-are-exact"),
        pytest.param(" a \n\n\tb ", "\n\n", [" a ", "\tb "], id="nothing-is-trimmed"),
        pytest.param("aки\nbки\n", "ки\n", ["a", "b"], id="tag-as-separator"),
        pytest.param("a\nb", "\n\n", ["a\nb"], id="no-separator-in-it"),
        pytest.param("", "\n\n", [], id="empty"),
        pytest.param(" \n\n\u3000\n", "\n\n", [], id="blank"),
        pytest.param("日本\n\n😀", "\n\n", ["日本", "😀"], id="unicode"),
    ],
)
def test_split(response: str, separator: str, steps: list[str]) -> None:
    assert [response[start:end] for start, end in split(response, separator)] == steps


@given(st.text(alphabet="ab \n", max_size=30), st.sampled_from(["\n\n", "\n", "ab"]))
def test_split_loses_nothing_but_separators_and_blanks(response: str, separator: str) -> None:
    spans = split(response, separator)
    pieces = [piece for piece in response.split(separator) if piece.strip()]
    assert [response[start:end] for start, end in spans] == pieces
    assert all(first[1] < second[0] for first, second in pairwise(spans))


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1), st.text(max_size=3))
def test_item_from_steps_has_exactly_these_steps(steps: list[str], separator: str) -> None:
    item = item_from_steps(CONTEXT, steps, separator)
    assert item.steps == tuple(steps)
    assert item.response == separator.join(steps)


@pytest.mark.parametrize(
    "steps", [pytest.param([], id="none"), pytest.param(["a", " \n"], id="blank")]
)
def test_item_from_steps_needs_steps(steps: list[str]) -> None:
    with pytest.raises(ValueError, match="steps"):
        item_from_steps(CONTEXT, steps, "\n\n")


@pytest.mark.parametrize(
    ("how", "one"),
    [
        pytest.param(Aggregation.MIN, 0.25, id="min"),
        pytest.param(Aggregation.LAST, 0.5, id="last"),
        pytest.param(Aggregation.PROD, 0.125, id="prod"),
        pytest.param(Aggregation.MEAN, 1.75 / 3, id="mean"),
        pytest.param(Aggregation.SUM, 1.75, id="sum"),
    ],
)
def test_aggregate(how: Aggregation, one: float) -> None:
    assert math.isclose(aggregate([1.0, 0.25, 0.5], how), one)


@pytest.mark.parametrize("how", Aggregation)
def test_aggregate_one_score_is_that_score(how: Aggregation) -> None:
    assert aggregate([-3.5], how) == -3.5


@pytest.mark.parametrize("how", Aggregation)
def test_aggregate_nothing_is_refused(how: Aggregation) -> None:
    with pytest.raises(ValueError, match="no scores"):
        aggregate([], how)
