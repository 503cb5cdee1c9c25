"""The tree of what is known: every token once, the right keys and values, a bound that holds."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_server.workers.reward.prefixes import Prefixes, Segment


def kept(tokens: Sequence[int], begin: int = 0) -> Segment:
    """Keys and values that depend on all tokens before them, as a model's do."""
    sums = [
        float(sum((at + 1) * token for at, token in enumerate(tokens[: n + 1])))
        for n in range(len(tokens))
    ]
    return (torch.tensor(sums[begin:])[:, None], -torch.tensor(sums[begin:])[:, None])


def rows(tokens: Sequence[int]) -> dict[int, list[float]]:
    """What a head would give at every third token."""
    whole = kept(tokens)[0]
    return {at: [float(whole[at, 0])] for at in range(0, len(tokens), 3)}


def add(tree: Prefixes, tokens: Sequence[int]) -> None:
    begin = tree.find(tokens).length
    if begin < len(tokens):
        tree.add(tokens, begin, kept(tokens, begin), rows(tokens))


def check(tree: Prefixes, tokens: Sequence[int]) -> int:
    """Check all that the tree knows of an input; returns how many tokens that is."""
    known = tree.find(tokens)
    if known.length:
        found = [torch.cat([segment[part] for segment in known.segments]) for part in range(2)]
        for mine, wanted in zip(found, kept(tokens), strict=True):
            assert torch.equal(mine, wanted[: known.length])
    assert all(rows(tokens)[at] == row for at, row in known.rows.items())
    assert all(at < known.length for at in known.rows)
    return known.length


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(st.lists(TOKENS, min_size=1, max_size=12))
@settings(deadline=None)
def test_what_was_added_is_found_and_stored_once(inputs: list[list[int]]) -> None:
    tree = Prefixes(10_000)
    for tokens in inputs:
        add(tree, tokens)
        assert check(tree, tokens) == len(tokens)
    for tokens in inputs:
        assert check(tree, tokens) == len(tokens)
        assert set(tree.find(tokens).rows) == set(rows(tokens))
    assert tree.size == len({tuple(t[: n + 1]) for t in inputs for n in range(len(t))})


@given(st.lists(TOKENS, min_size=1, max_size=20), st.integers(0, 30))
@settings(deadline=None)
def test_the_bound_holds_and_what_is_left_is_right(inputs: list[list[int]], limit: int) -> None:
    tree = Prefixes(limit)
    for tokens in inputs:
        add(tree, tokens)
        tree.trim()
        assert tree.size <= limit
        for one in inputs:
            check(tree, one)


def test_a_part_of_a_segment_is_known() -> None:
    tree = Prefixes(100)
    add(tree, [1, 2, 3, 4, 5])
    assert check(tree, [1, 2, 3, 9]) == 3
    assert check(tree, [9]) == 0
    known = tree.find([1, 2, 3, 4, 5])
    assert [len(segment[0]) for segment in known.first(2)] == [2]
    assert known.first(0) == ()


def test_what_was_used_longest_ago_goes_first() -> None:
    tree = Prefixes(7)
    old, new = [1, 1, 1], [2, 2, 2]
    add(tree, old)
    add(tree, new)
    tree.find(old)
    add(tree, [3, 3, 3])
    tree.trim()
    assert [tree.find(tokens).length for tokens in (old, new, [3, 3, 3])] == [3, 0, 3]


def test_what_is_held_stays() -> None:
    tree = Prefixes(0)
    add(tree, [1, 2, 3])
    add(tree, [1, 2, 4, 5])
    tree.trim([[1, 2, 4]])
    assert tree.find([1, 2, 4, 5]).length == 4
    assert tree.find([1, 2, 3]).length == 2
    tree.trim()
    assert tree.size == 0


def test_nothing_is_hung_on_what_was_dropped() -> None:
    tree = Prefixes(100)
    add(tree, [1, 2, 3])
    assert tree.clear()
    tree.add([1, 2, 3, 4], 3, kept([1, 2, 3, 4], 3), {})
    assert tree.size == 0
    assert not tree.clear()


def test_a_segment_keeps_no_larger_one_in_memory() -> None:
    tree = Prefixes(100)
    add(tree, list(range(50)))
    add(tree, [0, 1, 7])
    for segment in tree.find(list(range(50))).segments:
        storage = segment[0].untyped_storage().nbytes()
        assert storage == segment[0].numel() * segment[0].element_size()


@pytest.mark.parametrize("late", [[1, 2], [1, 2, 3]], ids=["inside", "at-the-end"])
def test_rows_can_come_later(late: list[int]) -> None:
    tree = Prefixes(100)
    tree.add([1, 2, 3], 0, kept([1, 2, 3]), {})
    tree.add(late, 0, kept(late), {len(late) - 1: [5.0]})
    assert tree.find([1, 2, 3, 4]).rows == {len(late) - 1: [5.0]}
    assert tree.size == 3
