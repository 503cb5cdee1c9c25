"""The sync face: one background event loop a process, started when first needed."""

import asyncio
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


class _Runner:
    """An event loop in a daemon thread: the end of the process closes what it holds."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="modelworker", daemon=True
        )
        self.thread.start()


_lock = threading.Lock()
_runner: _Runner | None = None
_inherited: list[_Runner] = []
"""A forked child's copies of its parent's loop: kept, since ending them would touch the
parent's selector."""


def _get() -> _Runner:
    global _runner  # noqa: PLW0603 - one loop a process is the point
    with _lock:
        if _runner is None:
            _runner = _Runner()
        return _runner


def _after_fork() -> None:
    global _runner, _lock  # noqa: PLW0603 - the child starts without the parent's thread
    _lock = threading.Lock()
    if _runner is not None:
        _inherited.append(_runner)
        _runner = None


os.register_at_fork(after_in_child=_after_fork)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop and wait for it.

    An exception that ends the wait, Ctrl-C above all, cancels the coroutine.
    """
    runner = _get()
    if threading.current_thread() is runner.thread:
        coroutine.close()
        raise RuntimeError(
            "a sync client was called inside its own event loop; use its `aio` there"
        )
    # As `run_coroutine_threadsafe`, for two thirds of its price.
    started: list[asyncio.Task[T]] = []
    done: queue.SimpleQueue[asyncio.Task[T]] = queue.SimpleQueue()

    def start() -> None:
        started.append(runner.loop.create_task(coroutine))
        started[0].add_done_callback(done.put)

    def cancel() -> None:
        started[0].cancel()

    runner.loop.call_soon_threadsafe(start)
    try:
        return done.get().result()
    except BaseException:
        runner.loop.call_soon_threadsafe(cancel)
        raise


def iterate(source: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Drive an async generator from a plain one; closing or dropping this closes that.

    One task owns `source` from start to end, so that a cancellation never meets a step
    that is still running. In a forked child nothing is closed: the stream is the parent's.
    """
    pid = os.getpid()
    parts: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    pump = asyncio.run_coroutine_threadsafe(_pump(source, parts.put), _get().loop)
    try:
        while not isinstance(part := parts.get(), _End):
            yield part
        pump.result()
    finally:
        if os.getpid() == pid:
            pump.cancel()


class _End:
    """The last item of the queue."""


async def _pump(source: AsyncGenerator[T, None], put: Callable[[T | _End], None]) -> None:
    try:
        async with aclosing(source):
            async for part in source:
                put(part)
    finally:
        put(_End())
