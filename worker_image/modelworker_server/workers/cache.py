"""The key-value cache of a batch whose rows come and go.

All rows end at the same column, so one decode step writes one column and a step costs no
copy of what is there. Shorter rows are padded on the left; the model learns of it by an
attention mask, so sliding windows and every other pattern of transformers stay right.

    column   0 . . start . . . . end . . capacity
    row 0          x x x x x x x |            the longest row begins at `start`
    row 1                  x x x |
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_GROWTH = 1.5
_MIN_COLUMNS = 64


class RowCache(Cache):
    """Keys and values of up to `max_rows` sequences in storage that grows as needed.

    What is masked must still be finite, because 0 * NaN is NaN: storage begins as zeros and a
    new row clears what the last one left in its place.
    """

    def __init__(self, layers: int, *, max_rows: int, columns: int = 0, rows: int = 0) -> None:
        self.stores = [RowLayer(self) for _ in range(layers)]
        """The layers, by their own type."""
        super().__init__(layers=[*self.stores])
        self.max_rows = max_rows
        self.lengths = [0] * rows
        """Tokens of each row."""
        self.start = 0
        self.end = 0
        self.row_capacity = rows
        self.column_capacity = columns

    @property
    def width(self) -> int:
        """Columns that attention reads: the length of the longest row."""
        return self.end - self.start

    @property
    def padding(self) -> list[int]:
        """Masked columns at the left of each row."""
        return [self.width - length for length in self.lengths]

    def reserve(self, columns: int) -> None:
        """Make room for that many more columns."""
        if self.end + columns > self.column_capacity:
            self._move(self.row_capacity, _grown(self.width + columns), self.width)

    def extend(self, columns: int) -> None:
        """Count columns that a forward pass wrote: one token more in every row for each."""
        self.end += columns
        self.lengths = [length + columns for length in self.lengths]

    def append(self, source: "RowCache", row: int, copies: int) -> None:
        """Add `copies` rows with the content of one row of another cache."""
        length, first = source.lengths[row], len(self.lengths)
        rows, width = first + copies, max(self.width, length)
        if rows > self.row_capacity or self.end < length:
            row_capacity = self.row_capacity
            if rows > row_capacity:
                row_capacity = min(self.max_rows, max(rows, int(rows * _GROWTH)))
            self._move(row_capacity, max(self.column_capacity, _grown(width + 1)), width)
        begin = self.end - length
        for mine, theirs in zip(self.stores, source.stores, strict=True):
            if not mine.stored:
                mine.allocate(*theirs.stored)
            for target, values in zip(mine.stored, theirs.stored, strict=True):
                target[first:rows, :, :begin] = 0
                target[first:rows, :, begin : self.end] = values[
                    row : row + 1, :, source.end - length : source.end
                ]
        self.lengths += [length] * copies
        self.start = self.end - max(self.lengths)

    def remove(self, row: int) -> None:
        """Take a row out; the last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            for layer in self.stores:
                for tensor in layer.stored:
                    tensor[row, :, : self.end] = tensor[last, :, : self.end]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        if self.lengths:
            self.start = self.end - max(self.lengths)
        else:
            self.clear()

    def clear(self) -> None:
        """Forget every row and give the memory back."""
        for layer in self.stores:
            layer.stored = []
        self.lengths = []
        self.start = self.end = self.row_capacity = self.column_capacity = 0

    def _move(self, rows: int, columns: int, end: int) -> None:
        """New storage of that size with the live columns ending at `end`."""
        begin, used = end - self.width, len(self.lengths)
        for layer in self.stores:
            for index, old in enumerate(layer.stored):
                new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
                new[:used, :, begin:end] = old[:used, :, self.start : self.end]
                layer.stored[index] = new
        self.row_capacity, self.column_capacity = rows, columns
        self.start, self.end = begin, end


class RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # its __init_subclass__
    """One layer of a `RowCache`, in the shape that transformers asks for."""

    is_sliding = False  # the mask does it: keys outside the window stay for other rows

    def __init__(self, cache: RowCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache
        self.stored: list[torch.Tensor] = []
        """Keys and values of every row and column, or nothing yet."""

    def allocate(self, *samples: torch.Tensor) -> None:
        """Storage of the cache's capacity with the heads, size and dtype of the samples."""
        rows, columns = self._cache.row_capacity, self._cache.column_capacity
        self.stored = [s.new_zeros(rows, s.shape[1], columns, s.shape[3]) for s in samples]
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate before the first update."""
        self.allocate(key_states, value_states)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns and return every live one, as views."""
        if not self.stored:
            self.allocate(key_states, value_states)
        cache = self._cache
        rows, end = key_states.shape[0], cache.end + key_states.shape[2]
        keys, values = self.stored
        keys[:rows, :, cache.end : end] = key_states
        values[:rows, :, cache.end : end] = value_states
        return keys[:rows, :, cache.start : end], values[:rows, :, cache.start : end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that the next forward pass attends to, and their offset."""
        return self._cache.width + query_length, 0

    def get_seq_length(self) -> int:
        """Columns before the next token."""
        return self._cache.width

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


def padding_mask(padding: Sequence[int], columns: int, device: torch.device) -> torch.Tensor | None:
    """True where a row has tokens; None when no row is padded, which has faster kernels."""
    if not any(padding):
        return None
    left = torch.tensor(padding, device=device)
    return torch.arange(columns, device=device) >= left[:, None]


def _grown(columns: int) -> int:
    return max(_MIN_COLUMNS, int(columns * _GROWTH))
