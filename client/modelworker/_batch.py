"""Bounded, ordered fan-out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from modelworker._errors import CallTimeout, ModelWorkerError

T = TypeVar("T")
OnError = Literal["raise", "return"]


class Gate:
    """Lets as many calls through as `limit()` says now, first come first served."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def _take(self) -> bool:
        free = self._inside < self._limit() and not self._waiting
        self._inside += free
        return free

    async def enter(self) -> None:
        """Wait for a place, and take it."""
        if self._take():
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._inside -= 1
        while self._waiting and self._inside < self._limit():
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)

    @asynccontextmanager
    async def place(self, until: float) -> AsyncIterator[None]:
        """A place for one call; waiting for it counts towards the call's time.

        Raises:
            CallTimeout: if none was free until this time of the event loop's clock.
        """
        if not self._take():
            try:
                async with asyncio.timeout_at(until):
                    await self.enter()
            except TimeoutError as error:
                raise CallTimeout(
                    f"{self._inside} calls were under way and no place came free in time; "
                    "raise max_in_flight or timeout, or scale the ModelWorker up"
                ) from error
        try:
            yield
        finally:
            self.leave()


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
