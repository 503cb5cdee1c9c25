"""The batch cache against plain lists: rows come, grow and go, and keep what is theirs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_server.workers.cache import RowCache, padding_mask

HEADS, SIZE, LAYERS = 2, 3, 2


def states(values: list[int], columns: int) -> torch.Tensor:
    """Keys of some rows and columns, each filled with its number."""
    numbers = torch.tensor(values, dtype=torch.float32).view(-1, 1, columns, 1)
    return numbers.expand(-1, HEADS, columns, SIZE)


def prompt(tokens: list[int]) -> RowCache:
    cache = RowCache(LAYERS, max_rows=1, rows=1, columns=len(tokens))
    for layer in range(LAYERS):
        keys = states(tokens, len(tokens)) + layer
        cache.update(keys, -keys, layer)
    cache.extend(len(tokens))
    return cache


def step(cache: RowCache, tokens: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    cache.reserve(1)
    seen = []
    for layer in range(LAYERS):
        keys = states(tokens, 1) + layer
        seen.append(cache.update(keys, -keys, layer))
    cache.extend(1)
    return seen


@settings(deadline=None)
@given(data=st.data())
def test_rows_keep_their_tokens(data: st.DataObject) -> None:
    cache = RowCache(LAYERS, max_rows=6)
    rows: list[list[int]] = []
    number = 0
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["append", "step", "step", "remove"]))
        if action == "append" and len(rows) < 6:
            length = data.draw(st.integers(1, 90))
            copies = data.draw(st.integers(1, 6 - len(rows)))
            tokens = list(range(number, number + length))
            number += length
            cache.append(prompt(tokens), 0, copies)
            rows += [list(tokens) for _ in range(copies)]
        elif action == "remove" and rows:
            gone = data.draw(st.integers(0, len(rows) - 1))
            cache.remove(gone)
            rows[gone] = rows[-1]
            rows.pop()
        elif action == "step" and rows:
            new = list(range(number, number + len(rows)))
            number += len(rows)
            for row, token in zip(rows, new, strict=True):
                row.append(token)
            seen = step(cache, new)
            check(cache, rows, seen)
    assert cache.lengths == [len(row) for row in rows]
    assert cache.width == max(map(len, rows), default=0)


def check(
    cache: RowCache, rows: list[list[int]], seen: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    for layer, (keys, values) in enumerate(seen):
        assert keys.shape == (len(rows), HEADS, cache.width, SIZE)
        for row, tokens in enumerate(rows):
            expected = states(tokens, len(tokens))[0] + layer
            assert torch.equal(keys[row, :, cache.padding[row] :], expected)
            assert torch.equal(values[row, :, cache.padding[row] :], -expected)


def test_masked_columns_are_finite_after_a_row_of_nan() -> None:
    cache = RowCache(LAYERS, max_rows=2)
    cache.append(prompt([1, 2, 3]), 0, 1)
    broken = prompt([4, 5, 6, 7])
    for layer in broken.stores:
        for tensor in layer.stored:
            tensor.fill_(torch.nan)
    cache.append(broken, 0, 1)
    cache.remove(1)
    cache.append(prompt([8]), 0, 1)
    for keys, values in step(cache, [9, 9]):
        assert torch.isfinite(keys).all()
        assert torch.isfinite(values).all()


def test_many_steps_copy_seldom() -> None:
    cache = RowCache(LAYERS, max_rows=1)
    cache.append(prompt([1]), 0, 1)
    storages = set()
    for token in range(500):
        step(cache, [token])
        storages.add(cache.stores[0].stored[0].data_ptr())
    assert len(storages) < 10
    assert cache.column_capacity < 2 * cache.width


def test_the_last_row_gives_the_memory_back() -> None:
    cache = RowCache(LAYERS, max_rows=2)
    cache.append(prompt([1, 2]), 0, 2)
    cache.remove(0)
    cache.remove(0)
    assert [layer.stored for layer in cache.stores] == [[], []]
    assert cache.row_capacity == 0


@pytest.mark.parametrize(
    ("padding", "columns", "mask"),
    [
        pytest.param([0, 0], 3, None, id="nothing-padded"),
        pytest.param([0, 2], 3, [[1, 1, 1], [0, 0, 1]], id="one-padded"),
    ],
)
def test_mask(padding: list[int], columns: int, mask: list[list[int]] | None) -> None:
    found = padding_mask(padding, columns, torch.device("cpu"))
    assert (found if found is None else found.int().tolist()) == mask
