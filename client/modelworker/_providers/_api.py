"""Connections to a provider: its SDK, seen as a worker with one address."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

from modelworker._answers import Answer
from modelworker._endpoints import Show
from modelworker._providers import _failures
from modelworker._settings import LMSettings

CONNECT_SECONDS: Final = 5.0
"""The rest of a call is bounded by its deadline."""


class Api(Protocol):
    """One provider's API through its SDK, for one event loop."""

    url: str
    """Base URL, as the SDK knows it."""
    secrets: tuple[str, ...]
    """Keys, which no message may repeat."""

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a request, in the shape of a worker's."""

    def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The parts of a streamed answer, in the shape of a worker's.

        Raises:
            EndedEarly: if the stream ends without its end.
        """

    async def aclose(self) -> None:
        """Close the connections."""


class EndedEarly(Exception):
    """A stream ended before it said so: the connection broke."""


class Address:
    """The one place where a provider is."""

    service = None
    given = True

    def __init__(self, settings: LMSettings) -> None:
        self.model = settings.name
        self.workers = (settings.base_url or settings.provider,)

    async def ready(self, until: float, show: Show | None = None) -> None:
        """Nothing to wait for."""

    async def aclose(self) -> None:
        """Nothing to stop."""


class ApiConnections:
    """Sends requests by an SDK, which is made when the first one comes.

    Args:
        provider: its name, for messages.
        make: makes the API in the running event loop.
    """

    def __init__(self, provider: str, make: Callable[[], Api]) -> None:
        self._provider = provider
        self._make = make
        self._api: Api | None = None

    async def post(self, base_url: str, path: str, body: bytes) -> Answer:
        """The whole answer; see `Connections.post`."""
        with self._translated(base_url, path) as api:
            payload = await api.ask(path, json.loads(body))
        return Answer(payload, base_url, worker=api.url)

    @asynccontextmanager
    async def stream(
        self, base_url: str, path: str, body: bytes
    ) -> AsyncIterator[AsyncGenerator[Answer, None]]:
        """The parts of an answer; see `Connections.stream`."""
        async with aclosing(self._events(base_url, path, json.loads(body))) as events:
            yield events

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        api, self._api = self._api, None
        if api is not None:
            await api.aclose()

    async def _events(
        self, base_url: str, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[Answer, None]:
        with self._translated(base_url, path) as api:
            async with aclosing(api.events(path, body)) as parts:
                async for part in parts:
                    yield Answer(part, base_url, worker=api.url)

    @contextmanager
    def _translated(self, base_url: str, path: str) -> Iterator[Api]:
        """The API; what its SDK raises comes out as an error of ours, with its cause."""
        where = _failures.Where(self._provider, base_url, path)
        try:
            if self._api is None:
                self._api = self._make()
            yield self._api
        except Exception as error:
            secrets = () if self._api is None else self._api.secrets
            found = _failures.translated(error, where, secrets)
            if found is None:
                raise
            raise found from error


@contextmanager
def fitting() -> Iterator[None]:
    """Says of an answer in an unknown shape that it is none.

    Raises:
        ValueError: for what reading it ended with.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"it does not fit: {error!r}") from error


def as_data(payload: Any) -> Any:
    """An SDK's model as plain data; what is no model stays, and will not fit."""
    return payload.to_dict(warnings=False) if hasattr(payload, "to_dict") else payload
