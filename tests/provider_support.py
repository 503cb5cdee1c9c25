"""Stand-ins that speak the wire formats of OpenAI and Anthropic, on loopback sockets."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from modelworker import LM
from tests.client_support import Reply, Request, StubWorker

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
KEY = "sk-secret-of-the-test"
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def openai_lm(server: StubWorker, **options: Any) -> LM:
    """A client of a stand-in for an OpenAI-compatible server."""
    return LM("gpt", base_url=f"{server.url}/v1", **{"api_key": KEY, **options})


def anthropic_lm(server: StubWorker, **options: Any) -> LM:
    """A client of a stand-in for Anthropic's API."""
    return LM("claude", provider="anthropic", base_url=server.url, **{"api_key": KEY, **options})


def openai_chat(request: Request, text: str = "hello", **choice: Any) -> Reply:
    """A chat answer with the samples that were asked for."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"{text} {index}"},
            "finish_reason": "stop",
            "logprobs": None,
            **choice,
        }
        for index in range(request.body.get("n", 1))
    ]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-2026-01-01",
        "choices": choices,
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }
    return Reply(body, headers=JSON)


def openai_events(*choices: Mapping[str, Any], done: bool = True) -> AsyncIterator[bytes]:
    """A stream of chat chunks, one choice each."""
    parts = [
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-2026-01-01",
            "choices": [choice],
        }
        for choice in choices
    ]
    lines = [b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts]
    return _sent([*lines, b"data: [DONE]\n\n"] if done else lines)


def openai_error(status: int, message: str, headers: Mapping[str, str] = {}, **more: Any) -> Reply:
    """An error as OpenAI words it."""
    detail = {"message": message, "type": None, "param": None, "code": None, **more}
    return Reply({"error": detail}, status, {**JSON, **headers})


def anthropic_message(
    text: str = "hello", stop_reason: str = "end_turn", stop_sequence: str | None = None
) -> dict[str, Any]:
    """A message as Anthropic sends it."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-2026-01-01",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": {
            "input_tokens": 7,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": None,
            "output_tokens": 3,
        },
    }


def anthropic_events(
    texts: Sequence[str],
    stop_reason: str = "end_turn",
    stop_sequence: str | None = None,
    *,
    ended: bool = True,
) -> AsyncIterator[bytes]:
    """A streamed message."""
    start = {**anthropic_message(), "content": [], "stop_reason": None}
    delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
    block: dict[str, Any] = {"type": "text", "text": ""}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            }
            for text in texts
        ),
    ]
    if ended:
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ]
    return _sent([anthropic_event(event) for event in events])


def anthropic_event(event: Mapping[str, Any]) -> bytes:
    """One server-sent event, which has its type in its name too."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def anthropic_error(
    status: int,
    kind: str,
    message: str,
    headers: Mapping[str, str] = {},
) -> Reply:
    """An error as Anthropic words it."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return Reply(body, status, {**JSON, **headers})


async def _sent(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
