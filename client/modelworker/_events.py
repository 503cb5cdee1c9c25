"""Server-sent events: from the bytes of a body to the data of each event. Pure."""

from collections.abc import AsyncIterator
from typing import Final

DONE: Final = b"[DONE]"
"""The data of the last event."""


async def data(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each `data:` line, the last one's too."""
    async for line in _lines(parts):
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    r"""Lines ended by `\n`; httpx's own also end at U+2028 and others, inside JSON strings."""
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
