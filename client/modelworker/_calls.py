"""One request, many requests, or a stream, through a session."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from modelworker import _progress
from modelworker._answers import Answer
from modelworker._batch import OnError, in_order
from modelworker._errors import ModelWorkerError
from modelworker._requests import Body
from modelworker._results import Chunk
from modelworker._streams import Stream

if TYPE_CHECKING:
    from modelworker._session import Session

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Item, Result]):
    """How to ask for something, and how to read the answer."""

    path: str
    body: Callable[[Item, str], Body]
    """From what is asked and the model's name."""
    parse: Callable[[Answer, Item], Result]
    timeout: float
    """Seconds for each item, retries included."""
    affinity: Callable[[Item], str | None] | None = None
    """The key of an item (`_affinity.key_of`): items of one key meet the same worker. None, or
    a key that is None, for any worker."""


async def one(session: "Session", call: Call[Item, Result], item: Item) -> Result:
    """The answer for one item."""
    await session.ready()
    until = session.until(call.timeout)
    async with session.gate.place(until):
        return await ask(session, call, item, until)


async def many(
    session: "Session",
    call: Call[Item, Result],
    items: Sequence[Item],
    *,
    on_error: OnError,
    progress: bool | None,
) -> list[Result | ModelWorkerError]:
    """The answers for every item, in order; each item has the call's whole time."""
    if not items:
        return []
    await session.ready()

    async def answer(index: int) -> Result:
        return await ask(session, call, items[index], session.until(call.timeout))

    with _progress.counting(session.model, len(items), progress) as advance:
        return await in_order(len(items), answer, session.gate, on_error=on_error, advance=advance)


async def stream(
    session: "Session",
    path: str,
    body: Callable[[str], Body],
    parse: Callable[[Answer], list[Chunk]],
    timeout: float,
    affinity: str | None = None,
) -> AsyncGenerator[Chunk, None]:
    """The parts of one answer as they come; closing this ends the request on the worker.

    A stream that breaks goes on elsewhere (`_streams`).

    Raises:
        StreamInterrupted: where it cannot, with what came.
        ModelWorkerError: what the request ended with before its first part.
    """
    await session.ready()
    async with session.gate.place(session.until(timeout)):
        answer = Stream(session, timeout, affinity)
        async with aclosing(answer.parts(path, body(session.model), parse)) as parts:
            async for part in parts:
                yield part


async def ask(session: "Session", call: Call[Item, Result], item: Item, until: float) -> Result:
    """The answer for one item by this time of the loop's clock, ready workers being known."""
    key = None if call.affinity is None else call.affinity(item)
    answer = await session.post(call.path, call.body(item, session.model), until, key)
    return call.parse(answer, item)
