"""What the tests of batches share: requests that a test answers, without network."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from modelworker import AsyncBatch, ModelWorkerError
from modelworker._batch import Gate, OnError
from modelworker._batches_aio import Work
from modelworker._session import Session
from modelworker._settings import Settings

Group = tuple[int, ...]


class Played:
    """Requests that a test answers: each waits for `let`, or for an item of its own."""

    def __init__(self, *groups: Group, weight: int = 1) -> None:
        self.groups = groups
        self.weight = weight
        self.asked: list[Group] = []
        self.ended: list[Group] = []
        self.free = asyncio.Event()
        self.held: dict[int, asyncio.Event] = {}
        self.failures: dict[int, Exception] = {}
        self.session = Session(Settings("m", endpoints=("http://h",)))
        self.session.token_gate = Gate(lambda: 4)

    def batch(self, on_error: OnError = "raise", count: int | None = None) -> AsyncBatch[Any]:
        work = Work(
            count=sum(map(len, self.groups)) if count is None else count,
            plan=lambda _: self.groups,
            weight=lambda group: self.weight,
            ask=self.ask,
        )
        return AsyncBatch(self.session, work, on_error=on_error, progress=False)

    async def ask(self, group: Group) -> Sequence[str | ModelWorkerError]:
        self.asked.append(group)
        try:
            await self.held.get(group[0], self.free).wait()
            for index in group:
                if not isinstance(error := self.failures.get(index), ModelWorkerError | None):
                    raise error
            return [self.failures.get(index) or f"r{index}" for index in group]  # type: ignore[misc]
        finally:
            self.ended.append(group)

    def hold(self, *indices: int) -> None:
        self.held |= {index: asyncio.Event() for index in indices}


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in an event loop of its own."""
    asyncio.run(scenario())
