"""From the messages of a request to a conversation in plain text."""

from collections.abc import Sequence

from modelworker_api import wire
from modelworker_server.errors import BadRequest
from modelworker_server.workers.base import Message


def plain_messages(given: Sequence[wire.ChatMessage], field: str = "messages") -> list[Message]:
    """The messages as a worker takes them; `field` is their place in the request.

    Raises:
        BadRequest: no message, or one that is not text; `field` is its `param`.
    """
    if not given:
        raise BadRequest(f"{field} is empty; give at least one message", param=field)
    return [
        Message(
            role=message.role,
            content=_plain(message.content, position, field),
            extra={} if message.name is None else {"name": message.name},
        )
        for position, message in enumerate(given)
    ]


def _plain(content: str | list[dict[str, object]] | None, position: int, field: str) -> str:
    """The text of a message; several parts are joined by newlines, as vLLM does."""
    if content is None:
        raise BadRequest(f"{field}[{position}].content is missing", param=field)
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        text = part.get("text")
        if part.get("type") != "text" or not isinstance(text, str):
            raise BadRequest(
                f"{field}[{position}].content: parts must be "
                '{"type": "text", "text": "..."}; this model takes no other',
                param=field,
            )
        texts.append(text)
    return "\n".join(texts)
