"""Bounded, ordered fan-out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from modelworker._errors import CallTimeout, InvalidRequest, ModelWorkerError

T = TypeVar("T")
OnError = Literal["raise", "return"]


class Gate:
    """Lets calls through while their weights add up to `limit()` now; first come first served.

    A call that is heavier than the limit goes through alone.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    def _fits(self, weight: int) -> bool:
        return not self._inside or self._inside + weight <= self._limit()

    def _take(self, weight: int) -> bool:
        free = not self._waiting and self._fits(weight)
        if free:
            self._inside += weight
        return free

    async def enter(self, weight: int = 1) -> None:
        """Wait for a place, and take it."""
        if self._take(weight):
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((place, weight))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(weight)
            else:
                place.cancel()
                self._admit()
            raise

    def leave(self, weight: int = 1) -> None:
        """Give the place back."""
        self._inside -= weight
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            place, weight = self._waiting[0]
            if not place.done():
                if not self._fits(weight):
                    return
                self._inside += weight
                place.set_result(None)
            self._waiting.popleft()

    @asynccontextmanager
    async def place(self, until: float | None) -> AsyncIterator[None]:
        """A place for one call, waited for until this time of the loop's clock, or for ever.

        Raises:
            CallTimeout: if none was free until then.
        """
        if not self._take(1):
            try:
                async with asyncio.timeout_at(until):
                    await self.enter()
            except TimeoutError as error:
                raise CallTimeout(
                    f"{self._inside} calls were under way and no place came free in time; "
                    "raise max_in_flight or timeout, or add replicas with `kubectl scale`"
                ) from error
        try:
            yield
        finally:
            self.leave()


def checked_on_error(value: object) -> None:
    """Refuse what is neither of the two words.

    Raises:
        InvalidRequest: with the words that are known.
    """
    if value not in {"raise", "return"}:
        raise InvalidRequest(f"on_error must be 'raise' or 'return', not {value!r}")


async def in_order(
    count: int,
    call: Callable[[int], Awaitable[T]],
    gate: Gate,
    *,
    on_error: OnError,
    advance: Callable[[], object],
) -> list[T | ModelWorkerError]:
    """Run `call(0)` to `call(count - 1)` through the gate; results in that order.

    Args:
        count: number of calls.
        call: starts one.
        gate: bounds how many run at once.
        on_error: `"raise"` cancels the rest at the first error and raises it; `"return"`
            puts each error in its place.
        advance: told each time one is over.
    """
    results: dict[int, T | ModelWorkerError] = {}

    async def item(index: int) -> None:
        try:
            results[index] = await call(index)
        except ModelWorkerError as error:
            if on_error == "raise":
                raise
            results[index] = error
        advance()

    try:
        async with asyncio.TaskGroup() as group:
            for index in range(count):
                await gate.enter()
                task = group.create_task(item(index))
                task.add_done_callback(lambda _: gate.leave())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [results[index] for index in range(count)]
