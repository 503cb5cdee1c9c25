"""Which answers share a request."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker import _score_plan
from modelworker._score_inputs import Item
from modelworker._score_plan import MAX_BYTES, MAX_INPUTS, REQUEST_TOKENS, tokens


def requests(items: list[Item], *, workers: int) -> list[tuple[int, ...]]:
    """The plan where any worker will do."""
    return _score_plan.requests(items, [None] * len(items), workers=workers)


def item(question: str, size: int = 300) -> Item:
    return Item({}, question, None, size)


ITEMS = st.lists(
    st.builds(
        item,
        st.sampled_from("abcde"),
        st.one_of(st.integers(1, 3000), st.sampled_from([60_000, MAX_BYTES, 2 * MAX_BYTES])),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(ITEMS, st.integers(0, 5))
def test_every_answer_once_within_the_limits(items: list[Item], workers: int) -> None:
    plan = requests(items, workers=workers)
    assert sorted(index for group in plan for index in group) == list(range(len(items)))
    for group in plan:
        assert 0 < len(group) <= MAX_INPUTS
        together = [items[index] for index in group]
        assert len(group) == 1 or sum(one.size for one in together) <= MAX_BYTES
        assert len(group) == 1 or sum(map(tokens, together)) <= REQUEST_TOKENS


@given(ITEMS, st.integers(1, 5))
def test_answers_to_a_question_follow_one_another_in_their_order(
    items: list[Item], workers: int
) -> None:
    order = [index for group in requests(items, workers=workers) for index in group]
    asked = [items[index].question for index in order]
    assert sum(before != after for before, after in pairwise(asked)) == max(0, len(set(asked)) - 1)
    for question in set(asked):
        mine = [index for index in order if items[index].question == question]
        assert mine == sorted(mine)


@pytest.mark.parametrize(
    ("items", "workers", "sizes"),
    [
        pytest.param([item("q", 6000)] * 12, 3, [2] * 6, id="two-requests-for-each-worker"),
        pytest.param([item("q")] * 12, 3, [4] * 3, id="one-where-they-are-short"),
        pytest.param([item("q")] * 2, 3, [1, 1], id="fewer-answers-than-that"),
        pytest.param([item("q")], 3, [1], id="one"),
        pytest.param([], 3, [], id="none"),
        pytest.param(
            [item(q, 3000) for q in "aaaabbbbccccdddd"],
            2,
            [4] * 4,
            id="a-question-stays-in-a-request",
        ),
        pytest.param(
            [item(q, 3000) for q in "abcdabcdabcdabcd"], 2, [4] * 4, id="wherever-its-answers-are"
        ),
        pytest.param([item("a", 6000)] + [item("b", 6000)] * 3, 1, [2, 2], id="too-long-for-one"),
        pytest.param([item("q", 30_000)] * 6, 1, [1] * 6, id="long-answers"),
        pytest.param(
            [item("q", 1)] * (2 * MAX_INPUTS + 2), 1, [MAX_INPUTS] * 2 + [2], id="tiny-answers"
        ),
    ],
)
def test_sizes(items: list[Item], workers: int, sizes: list[int]) -> None:
    assert [len(group) for group in requests(items, workers=workers)] == sizes


@given(ITEMS, st.integers(1, 5))
def test_answers_of_different_keys_never_share_a_request(items: list[Item], workers: int) -> None:
    keys = [{"a": "one", "b": "one", "c": "two"}.get(item.question) for item in items]
    plan = _score_plan.requests(items, keys, workers=workers)
    assert sorted(index for group in plan for index in group) == list(range(len(items)))
    assert all(len({keys[index] for index in group}) == 1 for group in plan)


def test_one_key_for_all_is_planned_as_none() -> None:
    items = [item(question, 900) for question in "abcabcabd" * 3]
    plan = _score_plan.requests(items, ["tree"] * len(items), workers=2)
    assert plan == requests(items, workers=2)


def test_the_limits_fit_a_workers_body() -> None:
    assert MAX_BYTES < 8 * 1024 * 1024
    assert _score_plan.tokens(item("q", 1)) == 1
