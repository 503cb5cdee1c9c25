"""What is known of inputs that were run before: keys and values, and the rows at their reads.

A tree of token segments. Two inputs that begin alike share the segments of their common
tokens, so a token is stored once however many inputs go on from it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from modelworker_server.scoring.batching import Kept
from modelworker_server.scoring.values import Row

Segment = tuple[Kept, ...]
"""Keys and values of consecutive tokens: [tokens, features] for each model that runs them."""


@dataclass(slots=True, eq=False)
class _Node:
    """A segment, and those that follow it by their first token."""

    tokens: tuple[int, ...] = ()
    segment: Segment = ()
    rows: dict[int, Row] = field(default_factory=dict)
    """What the head gave, by index into `tokens`."""
    parent: "_Node | None" = None
    children: "dict[int, _Node]" = field(default_factory=dict)
    used: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one input's first tokens."""

    length: int
    """How many of them."""
    segments: tuple[Segment, ...]
    """Their keys and values, in order."""
    rows: Mapping[int, Row]
    """What the head gave, by position."""

    def first(self, length: int) -> tuple[Segment, ...]:
        """The keys and values of the first `length` tokens, none where `length` is 0."""
        found: list[Segment] = []
        for segment in self.segments:
            if length <= 0:
                break
            found.append(tuple(kept[:length] for kept in segment))
            length -= len(segment[0])
        return tuple(found)


class Prefixes:
    """The tree, with a bound on its tokens.

    Args:
        limit: tokens that `trim` leaves; those used longest ago go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Tokens that are stored now."""
        self._root = _Node()
        self._now = 0

    def find(self, tokens: Sequence[int]) -> Known:
        """What is known of an input; it counts as used now."""
        self._now += 1
        segments: list[Segment] = []
        rows: dict[int, Row] = {}
        length = 0
        for node, count in self._walk(tokens):
            node.used = self._now
            whole = count == len(node.tokens)
            segments.append(node.segment if whole else tuple(k[:count] for k in node.segment))
            rows.update((length + at, row) for at, row in node.rows.items() if at < count)
            length += count
        return Known(length=length, segments=tuple(segments), rows=rows)

    def add(
        self, tokens: Sequence[int], begin: int, segment: Segment, rows: Mapping[int, Row]
    ) -> None:
        """Store what a forward pass gave.

        Args:
            tokens: the input up to the last token that was run.
            begin: the first token that was run.
            segment: keys and values of `tokens[begin:]`.
            rows: what the head gave, by position in `tokens`.
        """
        self._now += 1
        node, length = self._root, 0
        for reached, count in list(self._walk(tokens)):  # before the last one is split
            node = reached if count == len(reached.tokens) else self._split(reached, count)
            node.used = self._now
            length += count
        if length < len(tokens):
            if length < begin:  # what comes before has been dropped in the meantime
                return
            child = _Node(
                tokens=tuple(tokens[length:]),
                segment=_part(segment, length - begin),
                parent=node,
                used=self._now,
            )
            node.children[tokens[length]] = child
            self.size += len(child.tokens)
        self._write_rows(tokens, rows)

    def trim(self, held: Iterable[Sequence[int]] = ()) -> None:
        """Drop the segments used longest ago until the bound holds.

        Args:
            held: beginnings of inputs that are dropped in no case.
        """
        if self.size <= self.limit:
            return
        kept = {id(node) for tokens in held for node, _ in self._walk(tokens)}
        while self.size > self.limit:
            leaves = [leaf for leaf in self._leaves() if id(leaf) not in kept]
            if not leaves:
                return
            for leaf in sorted(leaves, key=lambda one: one.used):
                if self.size <= self.limit:
                    return
                self._drop(leaf)

    def clear(self) -> bool:
        """Forget everything; False if there was nothing."""
        had = self.size > 0
        self._root, self.size = _Node(), 0
        return had

    def _walk(self, tokens: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """The nodes that an input goes through, and how many tokens of each it has."""
        node, at, tokens = self._root, 0, tuple(tokens)
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                return
            count = _common(child.tokens, tokens[at : at + len(child.tokens)])
            yield child, count
            if count < len(child.tokens):
                return
            node, at = child, at + count

    def _split(self, node: _Node, count: int) -> _Node:
        """Cut a node in two; returns the first part, of `count` tokens."""
        parent = node.parent
        assert parent is not None  # noqa: S101 - the root is never split
        front = _Node(
            tokens=node.tokens[:count],
            segment=tuple(kept[:count].clone() for kept in node.segment),
            rows={at: row for at, row in node.rows.items() if at < count},
            parent=parent,
            children={node.tokens[count]: node},
            used=node.used,
        )
        parent.children[front.tokens[0]] = front
        node.rows = {at - count: row for at, row in node.rows.items() if at >= count}
        node.segment = _part(node.segment, count)
        node.tokens = node.tokens[count:]
        node.parent = front
        return front

    def _write_rows(self, tokens: Sequence[int], rows: Mapping[int, Row]) -> None:
        begin = 0
        for node, count in self._walk(tokens):
            for position, row in rows.items():
                if begin <= position < begin + count:
                    node.rows[position - begin] = row
            begin += count

    def _leaves(self) -> Iterator[_Node]:
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            if node.children:
                stack.extend(node.children.values())
            else:
                yield node

    def _drop(self, leaf: _Node) -> None:
        parent = leaf.parent
        assert parent is not None  # noqa: S101 - a leaf is not the root
        del parent.children[leaf.tokens[0]]
        self.size -= len(leaf.tokens)


def _part(segment: Segment, begin: int) -> Segment:
    # A copy, as a view would keep the whole of it in memory.
    return tuple(kept[begin:].clone() for kept in segment) if begin else segment


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """How many leading tokens are equal."""
    if left == right:
        return len(left)
    pairs = zip(left, right, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
