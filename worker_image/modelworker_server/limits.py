"""Concurrency control: how many requests are taken in, and when to come again."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from modelworker_server.errors import Overloaded

MAX_RETRY_AFTER: Final = 60.0
_WEIGHT: Final = 0.2
"""Weight of the newest service time in the moving average."""


@dataclass(eq=False, slots=True)
class _Ticket:
    """One request that was taken in."""

    sequences: int
    runs_since: float | None = None


class Limiter:
    """Admits requests as long as at most `max_queued` wait behind those that run.

    It counts and refuses, and never makes anybody wait: the order of work is the
    engine's. A request runs when the ones before it leave one of `max_running`
    sequences free; a request of many sequences runs as a whole, as the engine
    takes its sequences one after the other.

    Args:
        max_running: Sequences that the engine decodes together.
        max_queued: Requests that may wait beyond those that run.
        timer: Monotonic seconds.
    """

    def __init__(self, *, max_running: int, max_queued: int, timer: Callable[[], float]) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._timer = timer
        self._tickets: dict[_Ticket, None] = {}
        self._service_seconds = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests that run."""
        return sum(ticket.runs_since is not None for ticket in self._tickets)

    @property
    def waiting(self) -> int:
        """Requests that were taken in and do not run yet."""
        return len(self._tickets) - self.running

    @contextmanager
    def admit(self, sequences: int) -> Iterator[None]:
        """Hold a place for a request of so many sequences while the block runs.

        Raises:
            Overloaded: the queue is full; it carries the seconds after which to retry.
        """
        ticket = _Ticket(sequences)
        self._tickets[ticket] = None
        self._promote()
        if ticket.runs_since is None and self.waiting > self._max_queued:
            del self._tickets[ticket]
            raise Overloaded(
                f"{self.running} requests run and {self.waiting} wait, which is the limit; "
                "retry after the seconds in Retry-After, or add replicas",
                retry_after=self.retry_after(),
            )
        self._idle.clear()
        try:
            yield
        finally:
            self._release(ticket)

    def retry_after(self) -> float:
        """Seconds in which every request that runs now should have made place for another."""
        return min(self._service_seconds, MAX_RETRY_AFTER)

    async def idle(self) -> None:
        """Return once no request is taken in."""
        await self._idle.wait()

    def _promote(self) -> None:
        used = 0
        for ticket in self._tickets:
            if used >= self._max_running:
                return
            if ticket.runs_since is None:
                ticket.runs_since = self._timer()
            used += ticket.sequences

    def _release(self, ticket: _Ticket) -> None:
        del self._tickets[ticket]
        if ticket.runs_since is not None:
            seconds = self._timer() - ticket.runs_since
            known = self._service_seconds or seconds
            self._service_seconds = (1 - _WEIGHT) * known + _WEIGHT * seconds
        self._promote()
        if not self._tickets:
            self._idle.set()
