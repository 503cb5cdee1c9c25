"""The rows that inputs need: those that are known, those on their way, and those to ask for.

An engine that reads its prefix cache computes an input's last tokens alone, so it gives no
rows for those before them. In a search tree these were given for an earlier input with the
same beginning, and are kept here.
"""

import asyncio
import hashlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from modelworker_server.scoring.values import Row

KNOWN_ROWS: Final = 65536
"""Rows that are kept, each of about 300 bytes: the steps of some thousand answers."""

_DIGEST: Final = 16


class Ask(Protocol):
    """Runs an input on the engine."""

    async def __call__(
        self, tokens: Sequence[int], reads: Sequence[int], *, cached: bool
    ) -> Mapping[int, Row]:
        """Rows by position: of all `reads`, or with `cached` of those that were computed.

        Args:
            tokens: the input as far as its last read.
            reads: positions in `tokens`, ascending.
            cached: whether the engine may begin behind what its prefix cache has.
        """


class Rows:
    """The rows of many inputs at a time; what several share is asked for once.

    Args:
        ask: runs an input.
        limit: rows that are kept for later inputs; 0 where the engine has no prefix cache.
    """

    def __init__(self, ask: Ask, *, limit: int = KNOWN_ROWS) -> None:
        self._ask = ask
        self._limit = limit
        self._known: OrderedDict[bytes, Row] = OrderedDict()
        self._coming: dict[bytes, asyncio.Future[Row | None]] = {}

    async def of(self, tokens: Sequence[int], reads: Sequence[int]) -> list[Row]:
        """The row of each read, in order; `reads` are ascending positions in `tokens`."""
        if not self._limit:
            rows = await self._ask(tokens[: reads[-1] + 1], reads, cached=False)
            return [rows[read] for read in reads]
        keys = dict(zip(reads, prefix_keys(tokens, reads), strict=True))
        found: dict[int, Row] = {}
        coming: dict[int, asyncio.Future[Row | None]] = {}
        missing: list[int] = []
        for read, key in keys.items():
            if (row := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                found[read] = row
            elif (future := self._coming.get(key)) is not None:
                coming[read] = future
            else:
                missing.append(read)
        if missing:
            found |= await self._announced(tokens, {read: keys[read] for read in missing})
        for read, future in coming.items():
            # Shielded, as others wait for it too.
            if (row := await asyncio.shield(future)) is not None:
                found[read] = row
        if lost := [read for read in reads if read not in found]:
            found |= await self._fetch(tokens, lost)
        return [found[read] for read in reads]

    async def _announced(self, tokens: Sequence[int], keys: Mapping[int, bytes]) -> dict[int, Row]:
        """Ask for rows; inputs that need the same ones meanwhile wait for these."""
        loop = asyncio.get_running_loop()
        futures = {read: loop.create_future() for read in keys}
        self._coming |= {keys[read]: future for read, future in futures.items()}
        rows: dict[int, Row] = {}
        try:
            rows = await self._fetch(tokens, list(keys))
            return rows
        finally:
            for read, future in futures.items():
                del self._coming[keys[read]]
                # Without a row whoever waits asks for it on its own.
                future.set_result(rows.get(read))
                if read in rows:
                    self._keep(keys[read], rows[read])

    async def _fetch(self, tokens: Sequence[int], reads: Sequence[int]) -> dict[int, Row]:
        """Ask by way of the prefix cache, then once more for what the cache hides."""
        rows = dict(await self._ask(tokens[: reads[-1] + 1], reads, cached=True))
        if hidden := [read for read in reads if read not in rows]:
            rows |= await self._ask(tokens[: hidden[-1] + 1], hidden, cached=False)
        return rows

    def _keep(self, key: bytes, row: Row) -> None:
        if not all(map(math.isfinite, row)):
            return
        self._known[key] = row
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def prefix_keys(tokens: Sequence[int], reads: Sequence[int]) -> list[bytes]:
    """For each read a digest of the tokens up to it, itself included: what its row depends on."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    keys: list[bytes] = []
    begin = 0
    for read in reads:
        digest.update(array("q", tokens[begin : read + 1]).tobytes())
        begin = read + 1
        keys.append(digest.digest())
    return keys
