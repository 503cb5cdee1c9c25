"""Hands the adapters that the operator wants to the worker, one change at a time."""

import asyncio
import logging
from collections.abc import Sequence

from modelworker_api.adapters import Adapter
from modelworker_server.errors import WorkerError
from modelworker_server.state import ServerState

_log = logging.getLogger(__name__)


class Adapting:
    """The wishes of the operator and the task that fulfils the newest one.

    Args:
        state: The worker, and the lifecycle that is told when its adapters changed.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._wanted: tuple[Adapter, ...] = ()
        self._asked = asyncio.Event()

    def want(self, adapters: Sequence[Adapter]) -> None:
        """Note what is to be served; returns at once."""
        self._wanted = tuple(adapters)
        self._asked.set()

    async def run(self) -> None:
        """Fulfil wishes for ever; started when the worker's model is loaded."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            worker = self._state.worker
            before = worker.adapters
            try:
                await worker.want_adapters(self._wanted)
            except WorkerError as error:
                _log.warning("no adapters: %s", error.message)
            except Exception:
                _log.exception("the adapters could not be changed")
            # Not if nothing changed: the answer to a heartbeat names the adapters again.
            if worker.adapters != before:
                self._state.lifecycle.tell()
