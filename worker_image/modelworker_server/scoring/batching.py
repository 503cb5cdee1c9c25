"""Which inputs run together, and the forward pass that gives the hidden states at their reads.

Rows without a prefix are padded on the right and need no mask: causal attention never looks
there. A prefix whose keys and values are known is padded on the left, so that every row's own
tokens begin at one column:

    column     0 . . . . P . . . . . S
    row 0      p p p p p t t t t t t t
    row 1          p p p t t t t

The distance of two tokens in columns is their distance in the text, so sliding windows and
every other pattern of transformers stay right with an attention mask of two dimensions.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_PREFIX_SHARE: Final = 4
"""A known token costs no products of its own, but room and attention: a quarter of a token."""

Kept = torch.Tensor
"""Keys and values of some tokens of one row, all layers side by side: [tokens, features]."""


class Sized(Protocol):
    """An input that waits, as far as planning looks at it."""

    @property
    def group(self) -> object:
        """Inputs of equal groups share a prefix; None for one that shares nothing."""

    @property
    def prefix_length(self) -> int:
        """Tokens that are known, or will be when the group's prefix has run."""

    @property
    def own_length(self) -> int:
        """Tokens that remain to be run."""


S = TypeVar("S", bound=Sized)


def cost(count: int, own: int, prefix: int) -> int:
    """Tokens that a batch of `count` rows is worth, its longest parts `own` and `prefix`."""
    return count * (own + prefix // _PREFIX_SHARE)


def cost_of(inputs: Sequence[Sized]) -> int:
    """The same of a batch of inputs."""
    own = max(one.own_length for one in inputs)
    return cost(len(inputs), own, max(one.prefix_length for one in inputs))


def plan(waiting: Sequence[S], budget: int) -> list[S]:
    """The inputs of the next forward pass, in the order in which they are run.

    Groups are taken by the age of their oldest input, within a group the longest first, so
    that little is padded. The batch is the one that has the oldest input: nothing starves.

    Args:
        waiting: inputs by age, the oldest first; not empty.
        budget: tokens of one batch with padding; an input above it runs alone.
    """
    ages: dict[object, int] = {}
    for age, one in enumerate(waiting):
        ages.setdefault(one.group, age)
    order = sorted(waiting, key=lambda one: (ages[one.group], -one.own_length))
    batch: list[S] = []
    own = prefix = 0
    for one in order:
        wider, deeper = max(own, one.own_length), max(prefix, one.prefix_length)
        if batch and cost(len(batch) + 1, wider, deeper) > budget:
            if any(chosen is waiting[0] for chosen in batch):
                break
            batch, wider, deeper = [], one.own_length, one.prefix_length
        batch.append(one)
        own, prefix = wider, deeper
    return batch


@dataclass(frozen=True, slots=True)
class Row:
    """One input of a forward pass."""

    tokens: Sequence[int]
    """Those to run; one at least."""
    reads: Sequence[int]
    """Indices into `tokens`."""
    prefix: Sequence[Kept] = ()
    """What stands before `tokens`, in parts; of the model that runs it."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gives."""

    states: torch.Tensor
    """Last hidden states after the final norm at every read, row by row: [reads, hidden]."""
    kept: tuple[Kept, ...]
    """Keys and values of each row's `tokens`; empty unless they were asked for."""


class Backbone:
    """A decoder-only transformer without its head, on one device.

    Args:
        model: the base model of transformers.
        layers: how many layers of its cache hold keys and values.
    """

    def __init__(self, model: Any, *, layers: int) -> None:
        self._model = model
        self._layers = layers
        self._shapes: list[tuple[int, int]] = []
        self._room: torch.Tensor | None = None
        self.device: torch.device = model.device
        # Models whose positions come from the mask alone (ALiBi) take no position_ids.
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def run(self, rows: Sequence[Row], *, keep: bool) -> Output:
        """One forward pass.

        Args:
            rows: inputs, any number of them with a prefix.
            keep: whether keys and values are to be returned.
        """
        columns = max(len(row.tokens) for row in rows)
        lengths = [sum(len(part) for part in row.prefix) for row in rows]
        width = max(lengths)
        cache = self._cache(rows, lengths, width, columns) if width or keep else None
        extra: dict[str, Any] = {}
        if width and self._takes_positions:
            extra["position_ids"] = self._positions(rows, lengths, columns)
        if any(length < width for length in lengths):
            left = torch.tensor([width - length for length in lengths], device=self.device)
            extra["attention_mask"] = (
                torch.arange(width + columns, device=self.device) >= left[:, None]
            )
        ids = [list(row.tokens) + [0] * (columns - len(row.tokens)) for row in rows]
        output = self._model(
            input_ids=self._tensor(ids),
            past_key_values=cache,
            use_cache=cache is not None,
            **extra,
        )
        numbers = self._tensor([number for number, row in enumerate(rows) for _ in row.reads])
        reads = self._tensor([read for row in rows for read in row.reads])
        states = output.last_hidden_state[numbers, reads]
        kept: tuple[Kept, ...] = ()
        if keep and cache is not None:
            packed = self._pack(cache)
            kept = tuple(packed[n, : len(row.tokens)].clone() for n, row in enumerate(rows))
        return Output(states=states, kept=kept)

    def _positions(self, rows: Sequence[Row], lengths: Sequence[int], columns: int) -> torch.Tensor:
        begin = self._tensor(lengths)[:, None]
        last = self._tensor([len(row.tokens) - 1 for row in rows])[:, None]
        steps = torch.arange(columns, device=self.device)[None, :]
        # Padding repeats the last position: one beyond the model's table would not be found.
        return begin + torch.minimum(steps, last)

    def _cache(
        self, rows: Sequence[Row], lengths: Sequence[int], width: int, columns: int
    ) -> "_KnownCache":
        if not width:
            return _KnownCache([_KnownLayer() for _ in range(self._layers)])
        store = self._store(rows, width + columns)
        for number, row in enumerate(rows):
            begin = width - lengths[number]
            # What is masked must still be finite, because 0 * NaN is NaN.
            store[number, :begin] = 0
            for part in row.prefix:
                store[number, begin : begin + len(part)] = part
                begin += len(part)
        pieces: Sequence[torch.Tensor] = torch.split(
            store, [heads * size for heads, size in self._shapes], dim=-1
        )
        states = [
            piece.view(len(rows), width + columns, heads, size).transpose(1, 2)
            for piece, (heads, size) in zip(pieces, self._shapes, strict=True)
        ]
        return _KnownCache(
            [_KnownLayer(width, k, v) for k, v in zip(states[::2], states[1::2], strict=True)]
        )

    def _store(self, rows: Sequence[Row], columns: int) -> torch.Tensor:
        """Room for the keys and values of a batch: [rows, columns, features].

        It is that of the pass before where it suffices: new memory costs more to touch for
        the first time than all that is copied into it.
        """
        part = next(part for row in rows for part in row.prefix)
        shape = (len(rows), columns, part.shape[-1])
        if self._room is None or self._room.numel() < math.prod(shape):
            self._room = None  # given back before more is asked for
            self._room = part.new_empty(math.prod(shape))
        return self._room[: math.prod(shape)].view(shape)

    def _pack(self, cache: "_KnownCache") -> torch.Tensor:
        """The new keys and values of all layers: [rows, columns, features]."""
        new = [states for layer in cache.known for states in layer.new]
        self._shapes = [(states.shape[1], states.shape[3]) for states in new]
        return torch.cat([states.transpose(1, 2).flatten(2) for states in new], dim=-1)

    def _tensor(self, values: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


class _KnownLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # its __init_subclass__
    """One layer's keys and values: those that are known, and the new ones.

    Args:
        width: columns that are known.
        store: keys and values, [rows, heads, columns, size], with room for the new ones
            behind those that are known; nothing where none are.
    """

    is_sliding = False  # the mask does it: columns outside of one row's window are in another's

    def __init__(self, width: int = 0, *store: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._width = width
        self._store = store
        self.new: tuple[torch.Tensor, ...] = ()
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: all that is known is known from the beginning."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Remember the new ones, and return them behind those that are known."""
        self.new = (key_states, value_states)
        if not self._store:
            return self.new
        keys, values = self._store
        keys[:, :, self._width :] = key_states
        values[:, :, self._width :] = value_states
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that the forward pass attends to, and their offset."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Columns that are known."""
        return self._width

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class _KnownCache(Cache):
    """The cache of one forward pass."""

    def __init__(self, known: list[_KnownLayer]) -> None:
        self.known = known
        """The layers, by their own type."""
        super().__init__(layers=[*known])
