"""Anthropic's Messages API by the `anthropic` package, its answers worded as a worker's."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import anthropic

from modelworker._providers._api import CONNECT_SECONDS, EndedEarly, as_data, fitting
from modelworker._settings import LMSettings

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Anthropic's words for ours; others, such as `refusal`, stay as they are."""
_INPUT_TOKENS: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class AnthropicApi:
    """Conversations; several samples are as many requests at once."""

    def __init__(self, settings: LMSettings) -> None:
        self._client = anthropic.AsyncAnthropic(
            api_key=settings.api_key,
            base_url=settings.base_url,
            max_retries=0,
            timeout=anthropic.Timeout(None, connect=CONNECT_SECONDS),
        )
        self.url = str(self._client.base_url).rstrip("/")
        keys = (self._client.api_key, self._client.auth_token)
        self.secrets = tuple(key for key in keys if key)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """All samples; one that fails ends the others, and all of them are asked for again."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._create(body["request"])) for _ in range(body["n"])]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        messages = [as_data(task.result()) for task in tasks]
        with fitting():
            return answer_of(messages, keep_stop=body["keep_stop"])

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        """The parts of one sample."""
        ended = False
        async with await self._create(body["request"]) as stream:
            async for event in stream:
                part = as_data(event)
                with fitting():
                    ended = ended or part["type"] == "message_stop"
                    chunk = chunk_of(part, keep_stop=body["keep_stop"])
                if chunk is not None:
                    yield chunk
        if not ended:
            raise EndedEarly

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()

    async def _create(self, request: Mapping[str, Any]) -> Any:
        create: Any = self._client.messages.create
        return await create(**request)


def answer_of(messages: list[Any], *, keep_stop: bool) -> dict[str, Any]:
    """An answer in a worker's shape, of a message for each sample.

    Args:
        messages: what the API answered.
        keep_stop: whether the text ends with the stop string that ended it.
    """
    return {
        "model": messages[0]["model"],
        "choices": [
            {"index": index, "message": {"content": _text(message, keep_stop)}, **_end(message)}
            for index, message in enumerate(messages)
        ],
        "usage": {
            "prompt_tokens": sum(_input_tokens(message["usage"]) for message in messages),
            "completion_tokens": sum(message["usage"]["output_tokens"] for message in messages),
        },
    }


def chunk_of(event: Mapping[str, Any], *, keep_stop: bool) -> dict[str, Any] | None:
    """A part in a worker's shape; None for an event that says nothing to the caller."""
    if event["type"] == "content_block_delta" and event["delta"]["type"] == "text_delta":
        choice: dict[str, Any] = {"delta": {"content": event["delta"]["text"]}}
    elif event["type"] == "message_delta":
        kept = event["delta"].get("stop_sequence") if keep_stop else None
        choice = {"delta": {"content": kept or ""}, **_end(event["delta"])}
    else:
        return None
    return {"choices": [{"index": 0, **choice}]}


def _text(message: Mapping[str, Any], keep_stop: bool) -> str:
    said = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    return said + (message.get("stop_sequence") or "" if keep_stop else "")


def _end(message: Mapping[str, Any]) -> dict[str, Any]:
    reason = message["stop_reason"]
    return {
        "finish_reason": _FINISH_REASONS.get(reason, reason),
        "stop_reason": message.get("stop_sequence"),
    }


def _input_tokens(usage: Mapping[str, Any]) -> int:
    """All tokens of the input: the API counts those of its cache apart."""
    return sum(usage.get(name) or 0 for name in _INPUT_TOKENS)
