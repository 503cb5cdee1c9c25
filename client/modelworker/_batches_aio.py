"""AsyncBatch: many items under way; the core of `Batch`."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Sequence,
)
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelworker import _progress
from modelworker._batch import Gate, OnError
from modelworker._errors import CallTimeout, Cancelled, ModelWorkerError, PartialBatch

if TYPE_CHECKING:
    from modelworker._session import Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """What a batch does, in requests of one item or more."""

    count: int
    """Number of items."""
    plan: Callable[[int], Sequence[tuple[int, ...]]]
    """From the number of ready workers: the items of each request, by index."""
    weight: Callable[[Sequence[int]], int]
    """What a request weighs at the gate."""
    ask: Callable[[tuple[int, ...]], Awaitable[Sequence[T | ModelWorkerError]]]
    """Sends one request: an outcome for each of its items."""
    ready: Callable[[], Awaitable[None]] | None = None
    """What to wait for before the first request; by default the session's workers."""
    gate: Gate | None = None
    """What bounds the requests under way; by default the session's gate for tokens."""


class AsyncBatch(Generic[T]):
    """Items under way, awaitable; the attributes and methods are those of `Batch`.

    It belongs to the event loop that it was submitted in.
    """

    def __init__(
        self, session: "Session", work: Work[Any], *, on_error: OnError, progress: bool | None
    ) -> None:
        self._work = work
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._outcomes: dict[int, Any] = {}
        self._arrived: list[int] = []
        self._requests: dict[asyncio.Task[None], tuple[int, ...]] = {}
        self._bug: BaseException | None = None
        self._changed = asyncio.Event()
        self._advance: Callable[[], object] = lambda: None
        self._task = session.start(self._run(session, progress))

    def __len__(self) -> int:
        return self._work.count

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.done} of {len(self)} done, {len(self.errors)} failed)"

    @property
    def done(self) -> int:
        """Number of items whose result or error is known."""
        return len(self._outcomes)

    @property
    def errors(self) -> dict[int, ModelWorkerError]:
        """The errors so far, by index."""
        outcomes = dict(self._outcomes)
        return {i: outcomes[i] for i in sorted(outcomes) if _failed(outcomes[i])}

    def cancel(self, indices: Collection[int] | None = None) -> None:
        """End these items, or all: what is not done becomes `Cancelled`; see `Batch.cancel`."""
        self._check_loop()
        wanted = range(len(self)) if indices is None else indices
        if beyond := [index for index in wanted if not 0 <= index < len(self)]:
            raise IndexError(f"no item {beyond[0]} in a batch of {len(self)}")
        for index in self._left(wanted):
            self._settle(index, Cancelled(f"item {index} was cancelled before its result came"))
        for task, mine in list(self._requests.items()):
            if not self._left(mine):
                task.cancel()
        if self.done == len(self):
            self._task.cancel()

    async def as_completed(self) -> AsyncGenerator[tuple[int, T | ModelWorkerError], None]:
        """Index and result, or error, of each item as it comes; see `Batch.as_completed`."""
        for position in range(len(self)):
            yield await self._arrival(position)

    async def __aiter__(self) -> AsyncIterator[T]:
        for index in range(len(self)):
            while index not in self._outcomes:
                await self._change()
            outcome = self._outcomes[index]
            if self._on_error == "raise" and _failed(outcome):
                raise outcome
            yield outcome

    async def result(self, timeout: float | None = None) -> list[T]:
        """All results in the order of the items; see `Batch.result`."""
        try:
            async with asyncio.timeout(timeout):
                while self.done < len(self):
                    await self._change()
        except TimeoutError as error:
            raise CallTimeout(
                f"{self.done} of {len(self)} items are done after {timeout:g} s and the rest is "
                "under way: ask for the result again, or cancel"
            ) from error
        errors = self.errors
        if errors and self._on_error == "raise":
            raise _partial(self._outcomes, errors)
        return [self._outcomes[index] for index in range(len(self))]

    async def whole(self) -> list[T]:
        """All results; what ends the wait ends the batch, where errors are raised the first one."""
        try:
            for position in range(len(self)):
                _, outcome = await self._arrival(position)
                if self._on_error == "raise" and isinstance(outcome, ModelWorkerError):
                    raise outcome
            return [self._outcomes[index] for index in range(len(self))]
        finally:
            self.cancel()

    # --- the work --------------------------------------------------------------------

    async def _run(self, session: "Session", progress: bool | None) -> None:
        try:
            if len(self):
                await (self._work.ready or session.ready)()
            with _progress.counting(session.model, len(self), progress) as self._advance:
                await self._send(session)
        except ModelWorkerError as error:
            for index in self._left(range(len(self))):
                self._settle(index, error)
        except asyncio.CancelledError:
            for index in self._left(range(len(self))):
                self._settle(index, Cancelled("the client was closed before the result came"))
            raise
        except Exception as error:  # a bug of ours: everyone who waits has to see it
            self._bug = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            self._publish()

    async def _send(self, session: "Session") -> None:
        gate = self._work.gate or session.token_gate
        async with asyncio.TaskGroup() as group:
            for indices in self._work.plan(len(session.workers)):
                if not (left := self._left(indices)):
                    continue
                weight = self._work.weight(left)
                await gate.enter(weight)
                task = group.create_task(self._request(indices))
                self._requests[task] = indices
                task.add_done_callback(partial(self._over, gate, weight))

    def _over(self, gate: Gate, weight: int, task: asyncio.Task[None]) -> None:
        del self._requests[task]
        gate.leave(weight)

    async def _request(self, indices: tuple[int, ...]) -> None:
        left = self._left(indices)
        if not left:
            return
        outcomes: Sequence[object]
        try:
            outcomes = await self._work.ask(left)
        except ModelWorkerError as error:
            outcomes = [error] * len(left)
        for index, outcome in zip(left, outcomes, strict=True):
            self._settle(index, outcome)

    def _left(self, indices: Collection[int]) -> tuple[int, ...]:
        return tuple(index for index in indices if index not in self._outcomes)

    def _settle(self, index: int, outcome: object) -> None:
        """The first outcome of an item stays: one that comes after its end is dropped."""
        if index not in self._outcomes:
            self._outcomes[index] = outcome
            self._arrived.append(index)
            self._advance()
            self._publish()

    # --- waiting ---------------------------------------------------------------------

    def _publish(self) -> None:
        """Wake everyone who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _arrival(self, position: int) -> tuple[int, T | ModelWorkerError]:
        while position >= len(self._arrived):
            await self._change()
        index = self._arrived[position]
        return index, self._outcomes[index]

    async def _change(self) -> None:
        self._check_loop()
        if self._bug is not None:
            raise self._bug
        await self._changed.wait()

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this batch belongs to the event loop, and the process, that submitted it; "
                "submit the items again here"
            )


def _failed(outcome: object) -> bool:
    return isinstance(outcome, ModelWorkerError)


def _partial(outcomes: dict[int, Any], errors: dict[int, ModelWorkerError]) -> PartialBatch:
    results = {i: outcomes[i] for i in sorted(outcomes) if i not in errors}
    first = next(iter(errors.values()))
    return PartialBatch(
        f"{len(errors)} of {len(outcomes)} items failed, the first with {type(first).__name__}: "
        f"{first}; `results` and `errors` hold each item, on_error='return' gives them in one list",
        results,
        errors,
    )
