"""Which answers share a request. Pure."""

from collections.abc import Sequence
from typing import Final

from modelworker._score_inputs import Item

MAX_INPUTS: Final = 2048
"""Inputs of one request; the worker's limit."""
MAX_BYTES: Final = 8 * 1024 * 1024 - 64 * 1024
"""Bytes of one request's inputs: the limit of a worker's body, less the rest of it."""
REQUEST_TOKENS: Final = 16_384
"""Estimated tokens of one request: some passes of a worker, and little to do over if it dies."""
REQUESTS_PER_WORKER: Final = 2
"""At least, where there are enough answers: one is computed while the other is on its way."""
SMALL_REQUEST_TOKENS: Final = 4_096
"""A worker's share is not split below it: what comes in two requests runs in two passes."""

_BYTES_PER_TOKEN: Final = 3


def tokens(item: Item) -> int:
    """Tokens of an answer and its question, estimated from the length in UTF-8."""
    return max(1, item.size // _BYTES_PER_TOKEN)


def requests(
    items: Sequence[Item], keys: Sequence[str | None], *, workers: int
) -> list[tuple[int, ...]]:
    """The indices of the answers of each request, every answer once.

    Answers to the same question follow one another in their order, and share a request
    where it holds them: a worker computes a shared question once. Answers of different keys
    never share one, for they belong to different workers.

    Args:
        items: the answers.
        keys: the key of each answer's worker; answers to one question have one key.
        workers: number of ready workers that share the requests.
    """
    total = sum(map(tokens, items))
    whole = -(-total // max(1, workers))
    share = max(-(-whole // REQUESTS_PER_WORKER), min(whole, SMALL_REQUEST_TOKENS))
    cut = _Cut(items, min(REQUEST_TOKENS, share))
    for runs in _by_key(_by_question(items), keys):
        for run in runs:
            cut.begin(run)
            for index in run:
                cut.add(index)
        cut.end()
    return cut.requests


def _by_question(items: Sequence[Item]) -> list[list[int]]:
    runs: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        runs.setdefault(item.question, []).append(index)
    return list(runs.values())


def _by_key(runs: Sequence[list[int]], keys: Sequence[str | None]) -> list[list[list[int]]]:
    groups: dict[str | None, list[list[int]]] = {}
    for run in runs:
        groups.setdefault(keys[run[0]], []).append(run)
    return list(groups.values())


class _Cut:
    """Fills one request after the other."""

    def __init__(self, items: Sequence[Item], budget: int) -> None:
        self._items = items
        self._budget = budget
        self.requests: list[tuple[int, ...]] = []
        self._open: list[int] = []
        self._tokens = self._bytes = 0

    def begin(self, run: Sequence[int]) -> None:
        """A new request for answers that would fit into one but not into the rest of this."""
        needed = sum(tokens(self._items[index]) for index in run)
        if needed <= self._budget < self._tokens + needed:
            self.end()

    def add(self, index: int) -> None:
        """The answer into this request, or into the next if this one is full."""
        item = self._items[index]
        if (
            len(self._open) == MAX_INPUTS
            or self._tokens + tokens(item) > self._budget
            or self._bytes + item.size + 1 > MAX_BYTES
        ):
            self.end()
        self._open.append(index)
        self._tokens += tokens(item)
        self._bytes += item.size + 1

    def end(self) -> None:
        """What comes next goes into another request."""
        if self._open:
            self.requests.append(tuple(self._open))
        self._open = []
        self._tokens = self._bytes = 0
