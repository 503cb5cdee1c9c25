"""From an LM to its fallback: one call, many, a stream or a batch over a row of routes.

A route is tried while it can answer. What says that nobody can answer now leads to the next
one; what is wrong with the request does not, and neither does a stream that has begun.
"""

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from modelworker import _calls, _progress
from modelworker._batch import OnError, in_order
from modelworker._batches_aio import AsyncBatch, Work
from modelworker._calls import Call
from modelworker._errors import (
    ClusterUnavailable,
    ModelWorkerError,
    NotReady,
    Overloaded,
    Unavailable,
)
from modelworker._results import Chunk
from modelworker._sessions import Sessions

Item = TypeVar("Item")
Result = TypeVar("Result")

PASSED_ON: Final = (NotReady, Unavailable, Overloaded, ClusterUnavailable)
"""No worker, none that can be reached, or all of them full until retries were over. A call
whose time is over is no such thing: the fallback would have no time either."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route(Generic[Item, Result]):
    """One place to ask, and how it is asked there."""

    sessions: Sessions
    call: Call[Item, Result]


Routes = Sequence[Route[Item, Result]]
"""In the order in which they are tried; at least one."""


async def one(routes: Routes[Item, Result], item: Item) -> Result:
    """The answer for one item.

    Raises:
        ModelWorkerError: of the last route that was tried; a note tells of those before.
    """
    first, *rest = routes
    try:
        return await _calls.one(first.sessions.here(), first.call, item)
    except PASSED_ON as error:
        with _passed_on(error, rest):
            return await one(rest, item)


async def many(
    routes: Routes[Item, Result], items: Sequence[Item], *, on_error: OnError, progress: bool | None
) -> list[Result | ModelWorkerError]:
    """The answers for every item, in order; each is passed on by itself."""
    first, *rest = routes
    session = first.sessions.here()
    if not rest or not items:
        return await _calls.many(session, first.call, items, on_error=on_error, progress=progress)
    try:
        await session.ready()
    except PASSED_ON as error:
        with _passed_on(error, rest):
            return await many(rest, items, on_error=on_error, progress=progress)

    async def answer(index: int) -> Result:
        return await _asked(routes, items[index])

    with _progress.counting(session.model, len(items), progress) as advance:
        return await in_order(len(items), answer, session.gate, on_error=on_error, advance=advance)


async def stream(routes: Routes[Item, list[Chunk]], item: Item) -> AsyncGenerator[Chunk, None]:
    """The parts of one answer; passed on before its first part alone."""
    first, *rest = routes
    async with aclosing(_parts(first, item)) as parts:
        try:
            part: Chunk | None = await anext(parts, None)
        except PASSED_ON as error:
            failed = error
        else:
            if part is not None:
                yield part
            async for part in parts:
                yield part
            return
    with _passed_on(failed, rest):
        async with aclosing(stream(rest, item)) as parts:
            async for part in parts:
                yield part


def batch(
    routes: Routes[Item, Result], items: Sequence[Item], *, on_error: OnError, progress: bool | None
) -> AsyncBatch[Any]:
    """The items under way in the background of this event loop, a request each."""
    first, *rest = routes
    session = first.sessions.here()
    way: list[Routes[Item, Result]] = [routes]

    async def ready() -> None:
        try:
            await session.ready()
        except PASSED_ON as error:
            with _passed_on(error, rest):
                way[0] = rest

    async def ask(group: tuple[int, ...]) -> list[Result]:
        (index,) = group
        asked = _asked if way[0] is routes else one
        return [await asked(way[0], items[index])]

    work = Work(
        count=len(items),
        plan=lambda _: [(index,) for index in range(len(items))],
        weight=lambda _: 1,
        ask=ask,
        ready=ready,
        gate=session.gate,
    )
    return AsyncBatch(session, work, on_error=on_error, progress=progress)


async def _asked(routes: Routes[Item, Result], item: Item) -> Result:
    """The answer for an item that has a place at the first route, which is ready."""
    first, *rest = routes
    session = first.sessions.here()
    try:
        return await _calls.ask(session, first.call, item, session.until(first.call.timeout))
    except PASSED_ON as error:
        with _passed_on(error, rest):
            return await one(rest, item)


def _parts(route: Route[Item, list[Chunk]], item: Item) -> AsyncGenerator[Chunk, None]:
    call = route.call
    key = None if call.affinity is None else call.affinity(item)
    return _calls.stream(
        route.sessions.here(),
        call.path,
        partial(call.body, item),
        lambda answer: call.parse(answer, item),
        call.timeout,
        key,
    )


@contextmanager
def _passed_on(error: ModelWorkerError, rest: Routes[Any, Any]) -> Iterator[None]:
    """The next route is tried inside; without one this is the call's error.

    Raises:
        ModelWorkerError: the error; or that of the next route, with a note of this one.
    """
    if not rest:
        raise error
    said = f"{type(error).__name__}: {error}"
    logger.warning("falling back: %s", said)
    try:
        yield
    except ModelWorkerError as last:
        last.add_note(f"it was the fallback, after {said}")
        raise
