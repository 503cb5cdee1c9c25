"""What a session needs of connections: those to workers, or a provider's API."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from modelworker._answers import Answer


class Connections(Protocol):
    """Sends requests of one event loop; the paths and the answers are those of a worker."""

    async def post(self, base_url: str, path: str, body: bytes) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            ModelWorkerError: if there is none, or it is an error.
        """

    def stream(
        self, base_url: str, path: str, body: bytes
    ) -> AbstractAsyncContextManager[AsyncGenerator[Answer, None]]:
        """Send a request and yield the events of its answer; leaving ends the request.

        Raises:
            ModelWorkerError: if there is no answer, it is an error, or ends too early.
        """

    async def aclose(self) -> None:
        """Close every connection."""
