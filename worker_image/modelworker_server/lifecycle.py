"""What the worker says of itself: one state, who may change it, and who hears of it."""

import asyncio

from modelworker_api import wire
from modelworker_server.errors import NotReady, Unavailable

PROGRESS_STEP = 5
"""Percent of progress that is worth telling the operator at once."""

_FINAL = frozenset({wire.LoadState.DRAINING, wire.LoadState.FAILED})


class Lifecycle:
    """The worker's state; changed from the event loop only.

    Args:
        awaits_trust: Whether it is to be told whose tokens to take before it is ready: no
            client is to find a worker that cannot tell its callers from others.
    """

    def __init__(self, *, awaits_trust: bool = False) -> None:
        self.state = wire.LoadState.LOADING
        self.progress: int | None = None
        self.reason: wire.FailureReason | None = None
        self.message = ""
        self.has_model = False
        """Whether the model was loaded: from then on `worker.info` is known."""
        self._awaits_trust = awaits_trust
        self._told: int | None = None
        self._changed = asyncio.Event()

    def report(self, state: wire.LoadState, progress: int | None = None) -> None:
        """Take over what a loading worker reports; later states are not its to change."""
        if self.has_model or self.state in _FINAL or state is wire.LoadState.READY:
            return
        self._move(state, progress)

    def loaded(self) -> None:
        """The model is there and answered its warm request."""
        self.has_model = True
        if self.state not in _FINAL:
            ready = not self._awaits_trust
            self._move(wire.LoadState.READY if ready else wire.LoadState.WARMING, None)

    def trusted(self) -> None:
        """It is known whose tokens to take."""
        self._awaits_trust = False
        if self.has_model and self.state not in _FINAL:
            self._move(wire.LoadState.READY, None)

    def drain(self) -> None:
        """Refuse new work from now on."""
        if self.state not in _FINAL:
            self._move(wire.LoadState.DRAINING, None)

    def fail(self, reason: wire.FailureReason | None, message: str) -> None:
        """The worker cannot answer, now or later."""
        self.reason, self.message = reason, message
        self._move(wire.LoadState.FAILED, None)

    def tell(self) -> None:
        """Something else changed that the operator should hear at once."""
        self._changed.set()

    async def changed(self) -> None:
        """Return once something changed that the operator should hear at once."""
        await self._changed.wait()
        self._changed.clear()

    def require_ready(self) -> None:
        """Return when work is accepted.

        Raises:
            NotReady: while the model loads.
            Unavailable: while draining, or after a failure.
        """
        if self.state is wire.LoadState.READY:
            return
        if self.state is wire.LoadState.DRAINING:
            raise Unavailable("this worker is shutting down; send the request to another worker")
        if self.state is wire.LoadState.FAILED:
            raise Unavailable(f"this worker failed: {self.message}")
        if self.has_model:
            raise NotReady(
                "the operator has not said yet whose tokens to take, which the answer to a "
                "heartbeat does; wait until /readyz answers 200"
            )
        percent = "" if self.progress is None else f", {self.progress} %"
        raise NotReady(
            f"the model is not ready ({self.state.value}{percent}); wait until /readyz answers 200"
        )

    def _move(self, state: wire.LoadState, progress: int | None) -> None:
        step = progress is not None and abs(progress - (self._told or 0)) >= PROGRESS_STEP
        if state is not self.state or step:
            self._told = progress
            self._changed.set()
        self.state, self.progress = state, progress
