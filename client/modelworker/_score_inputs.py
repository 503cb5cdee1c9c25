"""Answers to score as callers give them -> checked inputs of `POST /v1/rewards`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard, get_args

from modelworker import _json
from modelworker._errors import InvalidRequest
from modelworker._prompts import checked_conversation
from modelworker._requests import Body, Message

One = str | tuple[str, str] | tuple[str, list[str]] | Sequence[Message]
"""A pair, a conversation that ends with the answer, or with `steps=` a question."""
Many = list[str] | Sequence[tuple[str, Sequence[str]]] | Sequence[Sequence[Message]]

Aggregation = Literal["min", "last", "prod", "mean", "sum"]

MAX_STEPS: Final = 4096
"""Steps of one input; the worker's limit."""

_SHAPES: Final = (
    "(question, response), (question, [step, ...]) or a list of messages that ends with the "
    "assistant's"
)


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to score, checked.

    `question` is what answers to the same question have in common, `steps` the number of
    steps if the caller gave them, `size` the length of `body` in bytes of JSON.
    """

    body: Body
    question: str
    steps: int | None
    size: int


def checked(
    inputs: object, *, steps: object = None, separator: object = None
) -> tuple[bool, list[Item]]:
    """The inputs of a call, and whether the caller gave one rather than a list.

    Args:
        inputs: a pair, a conversation, or a list of these; with `steps` a question or a
            list of questions.
        steps: the steps of the answer, or one list of them for each question.
        separator: what splits a response into steps; None for the model's own.

    Raises:
        InvalidRequest: if something can never be scored; it names the input.
    """
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise InvalidRequest(f"separator must be a string that is not empty, not {separator!r}")
    if steps is not None:
        if separator is not None:
            raise InvalidRequest("separator splits a response; it says nothing where steps are")
        return _asked_with_steps(inputs, steps)
    if isinstance(inputs, str):
        raise InvalidRequest(f"a question alone has no score: give {_SHAPES}, or steps=[...]")
    if not _is_list(inputs):
        raise InvalidRequest(
            f"inputs must be {_SHAPES}, or a list of these, not a {type(inputs).__name__}"
        )
    if inputs and isinstance(inputs[0], str | Mapping):
        return True, [_item(inputs, separator, "the input")]
    return False, [_item(one, separator, f"input {i}") for i, one in enumerate(inputs)]


def checked_pairs(pairs: object, separator: object) -> tuple[bool, list[Item]]:
    """The same for pairs of texts alone: one pair if it begins with a text.

    Raises:
        InvalidRequest: if something is no pair of texts; it names the input.
    """
    one, items = checked(pairs, separator=separator)
    for index, item in enumerate(items):
        if "response" not in item.body:
            raise InvalidRequest(
                f"{'the input' if one else f'input {index}'} must be (question, answer); "
                "score() takes steps and messages"
            )
    return one, items


def checked_aggregation(value: object) -> Aggregation | None:
    """The name of an aggregation, None for the model's own.

    Raises:
        InvalidRequest: if there is no such aggregation.
    """
    names = get_args(Aggregation)
    if value is None:
        return None
    if value not in names:
        raise InvalidRequest(f"aggregation must be one of {', '.join(names)}, not {value!r}")
    known: Aggregation = next(name for name in names if name == value)
    return known


def request(items: Sequence[Item], *, model: str, aggregation: Aggregation | None) -> Body:
    """Body of `POST /v1/rewards`."""
    body: Body = {"model": model, "inputs": [item.body for item in items]}
    if aggregation is not None:
        body["aggregation"] = aggregation
    return body


# --- one input -----------------------------------------------------------------------


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _asked_with_steps(inputs: object, steps: Any) -> tuple[bool, list[Item]]:
    if isinstance(inputs, str):
        return True, [_stepped(inputs, steps, "the input")]
    if not isinstance(inputs, Sequence) or not all(isinstance(one, str) for one in inputs):
        raise InvalidRequest("steps go with a question or a list of questions, as strings")
    if not _is_list(steps) or len(steps) != len(inputs):
        given = len(steps) if _is_list(steps) else repr(steps)[:80]
        raise InvalidRequest(
            f"{len(inputs)} questions need as many lists of steps, not {given}; "
            "for one question give it as a string"
        )
    return False, [
        _stepped(question, mine, f"input {i}")
        for i, (question, mine) in enumerate(zip(inputs, steps, strict=True))
    ]


def _item(value: Any, separator: str | None, what: str) -> Item:
    if _is_list(value) and value and isinstance(value[0], Mapping):
        return _conversation(value, separator, what)
    if not _is_list(value) or len(value) != 2 or not isinstance(value[0], str):
        raise InvalidRequest(f"{what} must be {_SHAPES}, not {value!r:.80}")
    question, answer = value
    if not isinstance(answer, str):
        if separator is not None:
            raise InvalidRequest(f"{what} has steps already; separator says nothing there")
        return _stepped(question, answer, what)
    body = {"question": question, "response": answer}
    return _made(_separated(body, separator), question, None, what)


def _stepped(question: str, steps: Any, what: str) -> Item:
    if not _is_list(steps):
        raise InvalidRequest(f"the steps of {what} must be a list of strings, not {steps!r:.80}")
    if not 0 < len(steps) <= MAX_STEPS:
        raise InvalidRequest(f"{what} has {len(steps)} steps; give 1 to {MAX_STEPS}")
    for index, step in enumerate(steps):
        if not isinstance(step, str) or not step.strip():
            raise InvalidRequest(
                f"step {index} of {what} must be a string that is not blank, not {step!r:.80}"
            )
    return _made({"question": question, "steps": list(steps)}, question, len(steps), what)


def _conversation(value: Any, separator: str | None, what: str) -> Item:
    messages = checked_conversation(value, what)
    roles = [message["role"] for message in messages]
    if roles[-2:] != ["user", "assistant"]:
        raise InvalidRequest(
            f"{what} must end with a user's message and the assistant's answer, not {roles!r:.80}"
        )
    for index, message in enumerate(messages):
        if not isinstance(message.get("content"), str) and not _is_list(message.get("content")):
            raise InvalidRequest(f"message {index} of {what} has no content; give its text")
    body: Body = {"messages": messages}
    question = repr([(m["role"], m.get("content")) for m in messages[:-1]])
    return _made(_separated(body, separator), question, None, what)


def _separated(body: Body, separator: str | None) -> Body:
    return body if separator is None else {**body, "separator": separator}


def _made(body: Body, question: str, steps: int | None, what: str) -> Item:
    try:
        size = len(_json.encode(body))
    except InvalidRequest as error:
        raise InvalidRequest(f"{what}: {error}") from error
    return Item(body, question, steps, size)
