"""The sync face: one background event loop a process, started when first needed."""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_STOP_SECONDS: Final = 2.0


class _Runner:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="modelworker", daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        """Cancel what runs, so that it closes its connections, and end the thread."""
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(_STOP_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_STOP_SECONDS)


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


def _at_exit() -> None:
    if _runner is not None:
        _runner.stop()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_STOP_SECONDS / 2)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop and wait for it.

    An exception that ends the wait, Ctrl-C above all, cancels the coroutine.
    """
    runner = _get()
    if threading.current_thread() is runner.thread:
        coroutine.close()
        raise RuntimeError(
            "the sync LM was called inside its own event loop; use LM(...).aio there"
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, runner.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(source: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Drive an async generator from a plain one; closing this closes that.

    Dropped in a forked child it does nothing: the stream belongs to the parent.
    """
    pid = os.getpid()
    runner = _get()
    try:
        while True:
            try:
                item = run(_next(source))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if os.getpid() == pid:
            closing = asyncio.run_coroutine_threadsafe(source.aclose(), runner.loop)
            if threading.current_thread() is not runner.thread:
                closing.result()


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await anext(source)
