"""A queue of keys: each key once, one pass per key at a time, back-off per key."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 30.0

_log = logging.getLogger(__name__)


def backoff_seconds(failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after that many failures in a row: doubled each time, 30 at most.

    `jitter` gives a number from 0 to 1; between half and all of the delay is used, so
    that objects that failed together do not come back together.
    """
    longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + 0.5 * jitter())


class KeyedQueue(Generic[K]):
    """Hands keys to `handle` with at most `workers` passes at once.

    A key that is added while it waits is handled once; one that is added during its own
    pass is handled again after it. `handle` returns True when the key is settled; when it
    returns False or raises, the key comes back after a delay, or sooner when it is added.
    Nothing is handed out before `open`.
    """

    def __init__(self, handle: Callable[[K], Awaitable[bool]], *, workers: int) -> None:
        self._handle = handle
        self._workers = workers
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, asyncio.TimerHandle] = {}
        self._work = asyncio.Semaphore(0)
        self._opened = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a pass, those that wait for their delay not counted."""
        return len(self._waiting)

    @property
    def delayed(self) -> int:
        """Keys that wait for the end of their back-off."""
        return len(self._delayed)

    @property
    def idle(self) -> bool:
        """True when no key waits and no pass runs."""
        return not (self._waiting or self._running or self._delayed)

    @property
    def opened(self) -> bool:
        """Whether keys are handed out."""
        return self._opened.is_set()

    def open(self) -> None:
        """Begin to hand out keys."""
        self._opened.set()

    def add(self, key: K) -> None:
        """Handle `key` as soon as a worker is free."""
        timer = self._delayed.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._work.release()

    def retry_delayed(self) -> None:
        """Handle every key that waits for its delay now, as if it had not failed before."""
        self._failures.clear()
        for key in list(self._delayed):
            self.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._opened.wait()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work_forever())

    async def _work_forever(self) -> None:
        while True:
            await self._work.acquire()
            key = self._ready.popleft()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                settled = await self._handle(key)
            except Exception:
                _log.exception("%s: the pass failed; it is repeated", key)
                settled = False
            finally:
                self._running.discard(key)
            self._finish(key, settled=settled)

    def _finish(self, key: K, *, settled: bool) -> None:
        if settled:
            self._failures.pop(key, None)
        else:
            self._failures[key] = self._failures.get(key, 0) + 1
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif not settled:
            delay = backoff_seconds(self._failures[key])
            loop = asyncio.get_running_loop()
            self._delayed[key] = loop.call_later(delay, self.add, key)
