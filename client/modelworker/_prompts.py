"""One prompt or many, one conversation or many: told apart and checked. Pure."""

import operator
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeGuard

from modelworker._errors import InvalidRequest
from modelworker._requests import Message, Prompt


def is_one_prompt(prompt: object) -> TypeGuard[Prompt]:
    """Whether this is one prompt (text or token ids) rather than a list of them.

    Raises:
        InvalidRequest: if it is neither.
    """
    if isinstance(prompt, str):
        return True
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise InvalidRequest(
            "the prompt must be a string, a list of token ids, or a list of these, "
            f"not a {type(prompt).__name__}"
        )
    return bool(prompt) and not isinstance(prompt[0], str | Sequence)


def checked_prompt(prompt: object, what: str = "the prompt") -> Prompt:
    """A prompt that is not empty, its token ids as plain integers.

    Raises:
        InvalidRequest: if it is empty or of another type.
    """
    if not isinstance(prompt, str | Sequence) or isinstance(prompt, bytes):
        raise InvalidRequest(
            f"{what} must be a string or a list of token ids, not a {type(prompt).__name__}"
        )
    if not prompt:
        raise InvalidRequest(f"{what} is empty; give at least one token")
    return prompt if isinstance(prompt, str) else _token_ids(prompt, what)


def checked_prompts(prompts: Sequence[object]) -> list[Prompt]:
    """Every prompt of a list, checked; the error names the first wrong one."""
    return [checked_prompt(prompt, f"prompt {i}") for i, prompt in enumerate(prompts)]


def checked_texts(texts: Sequence[object]) -> list[str]:
    """Every text of a list, checked.

    Raises:
        InvalidRequest: if it is no list, or holds something that is no string.
    """
    if isinstance(texts, bytes) or not isinstance(texts, Sequence):
        raise InvalidRequest(
            f"text must be a string or a list of strings, not a {type(texts).__name__}"
        )
    checked = [text for text in texts if isinstance(text, str)]
    if len(checked) != len(texts):
        raise InvalidRequest("text must be a list of strings only")
    return checked


def is_one_conversation(messages: object) -> bool:
    """Whether this is one conversation rather than a list of them.

    Raises:
        InvalidRequest: if it is neither.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise InvalidRequest(
            'messages must be a list of {"role": "user", "content": "..."}, or a list of such '
            f"lists, not a {type(messages).__name__}"
        )
    return bool(messages) and isinstance(messages[0], Mapping)


def checked_conversation(messages: object, what: str = "the conversation") -> list[Message]:
    """A conversation of at least one message, each with a role.

    Raises:
        InvalidRequest: if it is empty or a message is not a mapping with a role.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise InvalidRequest(
            f'{what} must be a list of {{"role": "user", "content": "..."}}, not {messages!r:.80}'
        )
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f'message {i} of {what} must be {{"role": "user", "content": "..."}}, '
                f"not {message!r:.80}"
            )
    return list(messages)


def checked_conversations(conversations: Sequence[object]) -> list[list[Message]]:
    """Every conversation of a list, checked; the error names the first wrong one."""
    return [checked_conversation(item, f"conversation {i}") for i, item in enumerate(conversations)]


def _token_ids(ids: Sequence[Any], what: str) -> list[int]:
    wrong = next((t for t in ids if not isinstance(t, Integral) or isinstance(t, bool)), None)
    if wrong is not None:
        raise InvalidRequest(f"{what} holds {wrong!r:.80}; give text, or token ids only")
    plain = [operator.index(token) for token in ids]
    if min(plain) < 0:
        raise InvalidRequest(f"{what} holds the negative token id {min(plain)}")
    return plain
