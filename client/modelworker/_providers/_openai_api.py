"""OpenAI's API, or one like it, by the `openai` package."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import openai

from modelworker._providers._api import CONNECT_SECONDS, EndedEarly, as_data, fitting
from modelworker._settings import LMSettings


class OpenAIApi:
    """Chat and the legacy completions; the shape of the answers is a worker's already.

    Raises:
        openai.OpenAIError: if no key is known.
    """

    def __init__(self, settings: LMSettings) -> None:
        self._client = openai.AsyncOpenAI(
            api_key=settings.api_key,
            base_url=settings.base_url,
            max_retries=0,
            timeout=openai.Timeout(None, connect=CONNECT_SECONDS),
        )
        self.url = str(self._client.base_url).rstrip("/")
        self.secrets: tuple[str, ...] = (self._client.api_key,) if self._client.api_key else ()

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer as plain data, with the fields that the SDK does not know."""
        return as_data(await self._create(path)(**body))

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The parts; the SDK takes the end of the connection for the end of the answer."""
        finished: set[int] = set()
        async with await self._create(path)(**body) as stream:
            async for event in stream:
                part = as_data(event)
                yield part
                with fitting():
                    choices = part.get("choices") or ()
                    finished |= {c["index"] for c in choices if c.get("finish_reason")}
        if len(finished) < body["n"]:
            raise EndedEarly

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()

    def _create(self, path: str) -> Any:
        chat = "chat" in path
        return (self._client.chat.completions if chat else self._client.completions).create
