"""The life of a worker process: listen, load, serve, drain. Returns the exit code."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelworker_api import wire
from modelworker_server.adapting import Adapting
from modelworker_server.errors import LoadError
from modelworker_server.heartbeat import Heartbeats
from modelworker_server.http_server import Server
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker

WATCH_SECONDS: Final = 1.0
"""How often the engine is looked at."""
FAREWELL_SECONDS: Final = 3.0
"""Longest wait for the operator to hear the last word."""
CLOSE_SECONDS: Final = 2.0
"""Longest wait for the engine to give up its work, and for the answers to leave."""
TERMINATION_LOG_BYTES: Final = 4096
"""What Kubernetes keeps of it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker cannot go on."""

    name: str
    """A `FailureReason` where the load failed."""
    message: str

    @property
    def reason(self) -> wire.FailureReason | None:
        """What the operator is told; it has words for a failed load alone."""
        try:
            return wire.FailureReason(self.name)
        except ValueError:
            return None

    def line(self) -> str:
        """The one line for the termination log."""
        return f"{self.name}: {' '.join(self.message.split())}"


class Stop:
    """How often the process was asked to end."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.urged = asyncio.Event()

    def ask(self) -> None:
        """Ask once more: the first time to drain, the second to end at once."""
        (self.urged if self.asked.is_set() else self.asked).set()


@dataclass(frozen=True, slots=True)
class Process:
    """The parts of one process, put together by the composition root."""

    state: ServerState
    server: Server
    listener: socket.socket
    heartbeats: Heartbeats | None
    adapting: Adapting
    stop: Stop
    create_worker: Callable[[], BaseModelWorker]
    """Imports the engine, which takes seconds: called in a thread."""
    drain_seconds: float
    termination_log: Path | None

    async def run(self) -> int:
        """Serve until the end; 0 if every accepted request was answered."""
        serving = asyncio.create_task(self.server.serve(sockets=[self.listener]))
        beating = asyncio.create_task(self.heartbeats.run()) if self.heartbeats else None
        engine = asyncio.create_task(self._engine())
        asked = asyncio.create_task(self.stop.asked.wait())
        await _first_of(engine, asked, serving)
        if engine.done():
            answered = self._fail(engine.result())
        elif asked.done():
            answered = await self._drain(engine)
        else:
            answered = self._fail(Failure("ServerDied", "the HTTP server ended by itself"))
        if beating is not None and self.heartbeats is not None:
            beating.cancel()
            await self.heartbeats.last(FAREWELL_SECONDS)
        if answered:
            # The last bytes may still be on their way to clients that read slowly.
            self.server.should_exit = True
            urged = asyncio.create_task(self.stop.urged.wait())
            await _first_of(serving, urged, seconds=self.drain_seconds)
        if self.state.lifecycle.has_model:
            await self._close_worker()
        self.server.should_exit = True
        await _first_of(serving, seconds=CLOSE_SECONDS)
        return 0 if answered else 1

    async def _engine(self) -> Failure:
        """Load the model and watch the engine; returns when there is no hope."""
        state = self.state
        try:
            worker = await asyncio.to_thread(self.create_worker)
            state.attach(worker)
            await worker.load(state.lifecycle.report)
        except LoadError as error:
            return Failure(error.reason.value, error.message)
        except Exception as error:
            _log.exception("the model was not loaded")
            return Failure(wire.FailureReason.LOAD_FAILED.value, f"{type(error).__name__}: {error}")
        state.loaded()
        info = worker.info
        _log.info("serving %s at revision %s in %s", info.name, info.revision, info.dtype)
        adapting = asyncio.create_task(self.adapting.run())
        while worker.alive():  # noqa: ASYNC110 - an engine that died can set no event
            await asyncio.sleep(WATCH_SECONDS)
        adapting.cancel()
        return Failure("EngineDied", "the engine died and cannot recover; the log says why")

    def _fail(self, failure: Failure) -> bool:
        self.state.lifecycle.fail(failure.reason, failure.message)
        line = failure.line()
        sys.stderr.write(line + "\n")
        if self.termination_log is not None:
            try:
                self.termination_log.write_bytes(line.encode()[: TERMINATION_LOG_BYTES - 1] + b"\n")
            except OSError as error:
                _log.warning("the termination log was not written: %s", error)
        return False

    async def _drain(self, engine: asyncio.Task[Failure]) -> bool:
        """Wait for the accepted requests; whether all of them were answered."""
        limiter = self.state.limiter
        self.state.lifecycle.drain()
        _log.info("draining %d requests", limiter.running + limiter.waiting)
        idle = asyncio.create_task(limiter.idle())
        urged = asyncio.create_task(self.stop.urged.wait())
        await _first_of(idle, urged, engine, seconds=self.drain_seconds)
        if idle.done():
            _log.info("every accepted request was answered")
            return True
        if engine.done():
            return self._fail(engine.result())
        why = "a second signal" if urged.done() else f"the end of {self.drain_seconds:g} s"
        _log.warning("%s cuts off %d requests", why, limiter.running + limiter.waiting)
        return False

    async def _close_worker(self) -> None:
        """End what is left on the engine; its callers get an error."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.state.worker.close()
        except TimeoutError:
            _log.warning("the engine did not stop within %g s", CLOSE_SECONDS)


async def _first_of(*tasks: asyncio.Task[Any], seconds: float | None = None) -> None:
    """Return when one of the tasks is done, or after so many seconds."""
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
