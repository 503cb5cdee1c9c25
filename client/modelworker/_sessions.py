"""The sessions of one client, one for each event loop that has called it."""

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelworker._settings import Settings

if TYPE_CHECKING:
    from modelworker._session import Session


class Sessions:
    """Finds or makes the running event loop's session."""

    def __init__(self, settings: Settings, new: Callable[[Settings], "Session"]) -> None:
        self._settings = settings
        self._new = new
        self._by_loop: dict[asyncio.AbstractEventLoop, Session] = {}
        weakref.finalize(self, _abandon, self._by_loop).atexit = False

    def here(self) -> "Session":
        """The running loop's session; those of closed loops are forgotten."""
        loop = asyncio.get_running_loop()
        session = self._by_loop.get(loop)
        if session is None:
            for old in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[old]
            session = self._by_loop[loop] = self._new(self._settings)
        return session

    async def aclose(self) -> None:
        """Close the running loop's session."""
        if session := self._by_loop.pop(asyncio.get_running_loop(), None):
            await session.aclose()


def _abandon(by_loop: "dict[asyncio.AbstractEventLoop, Session]") -> None:
    """Close what a client that was dropped without `close` left open."""
    for session in by_loop.values():
        session.close_soon()
