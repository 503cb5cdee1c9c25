"""Batch: the sync face of `AsyncBatch`."""

from collections.abc import AsyncGenerator, Collection, Generator, Iterator
from typing import Generic, TypeVar

from modelworker import _sync
from modelworker._batches_aio import AsyncBatch
from modelworker._errors import ModelWorkerError

T = TypeVar("T")


class Batch(Generic[T]):
    """Items under way in the background, in the order in which they were given.

    `submit` returns it at once. Iterating gives the results in that order, each as soon as
    it and those before it are known; a failed item raises its error, or with
    `on_error="return"` is given as the error. It goes on when nobody waits, and ends with
    `cancel` or when its client is closed.
    """

    def __init__(self, aio: AsyncBatch[T]) -> None:
        self._aio = aio

    def __len__(self) -> int:
        return len(self._aio)

    def __repr__(self) -> str:
        return repr(self._aio).removeprefix("Async")

    @property
    def done(self) -> int:
        """Number of items whose result or error is known."""
        return self._aio.done

    @property
    def errors(self) -> dict[int, ModelWorkerError]:
        """The errors so far, by index."""
        return self._aio.errors

    def cancel(self, indices: Collection[int] | None = None) -> None:
        """End these items, or all: what is not done becomes a `Cancelled` error.

        A request ends on its worker when all of its items are cancelled.

        Args:
            indices: places in the list that was submitted; None for all.

        Raises:
            IndexError: if there is no such item.
        """

        async def cancel() -> None:
            self._aio.cancel(indices)

        _sync.run(cancel())

    def as_completed(self) -> Generator[tuple[int, T | ModelWorkerError], None, None]:
        """Index and result, or error, of each item as it comes; those known come first."""
        return _sync.iterate(self._aio.as_completed())

    def __iter__(self) -> Iterator[T]:
        async def ordered() -> AsyncGenerator[T, None]:
            async for outcome in self._aio:
                yield outcome

        return _sync.iterate(ordered())

    def result(self, timeout: float | None = None) -> list[T]:
        """All results in the order of the items, errors among them with `on_error="return"`.

        Args:
            timeout: seconds to wait; None waits for the last item.

        Raises:
            PartialBatch: if items failed, with the results of the others.
            CallTimeout: if items are left after `timeout`; the batch goes on.
        """
        return _sync.run(self._aio.result(timeout))
