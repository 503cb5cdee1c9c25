"""What state follows on what, what is refused in it, and what the operator hears at once."""

import asyncio
from collections.abc import Callable

import pytest

from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import NotReady, Unavailable
from modelworker_server.lifecycle import Lifecycle

Step = Callable[[Lifecycle], None]


def report(state: LoadState, percent: int | None = None) -> Step:
    return lambda lifecycle: lifecycle.report(state, percent)


def fail(lifecycle: Lifecycle) -> None:
    lifecycle.fail(FailureReason.MODEL_NOT_FOUND, "no config.json")


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        pytest.param([], LoadState.LOADING, id="from-the-start"),
        pytest.param([report(LoadState.DOWNLOADING, 3)], LoadState.DOWNLOADING, id="download"),
        pytest.param([report(LoadState.READY)], LoadState.LOADING, id="only-loaded-is-ready"),
        pytest.param([Lifecycle.loaded], LoadState.READY, id="loaded"),
        pytest.param(
            [Lifecycle.loaded, report(LoadState.WARMING)], LoadState.READY, id="late-report"
        ),
        pytest.param([Lifecycle.loaded, Lifecycle.drain], LoadState.DRAINING, id="drain"),
        pytest.param(
            [Lifecycle.drain, report(LoadState.LOADING, 50)], LoadState.DRAINING, id="drain-stays"
        ),
        pytest.param([Lifecycle.drain, Lifecycle.loaded], LoadState.DRAINING, id="loaded-too-late"),
        pytest.param([fail, Lifecycle.drain], LoadState.FAILED, id="failed-stays"),
        pytest.param([Lifecycle.drain, fail], LoadState.FAILED, id="failed-in-the-drain"),
    ],
)
def test_states(steps: list[Step], state: LoadState) -> None:
    lifecycle = Lifecycle()
    for step in steps:
        step(lifecycle)
    assert lifecycle.state is state


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        pytest.param([], NotReady, "Loading", id="loading"),
        pytest.param([report(LoadState.DOWNLOADING, 40)], NotReady, "40 %", id="progress"),
        pytest.param([Lifecycle.drain], Unavailable, "another worker", id="draining"),
        pytest.param([fail], Unavailable, "no config.json", id="failed"),
    ],
)
def test_work_is_refused_with_a_reason(
    steps: list[Step], error: type[Exception], says: str
) -> None:
    lifecycle = Lifecycle()
    for step in steps:
        step(lifecycle)
    with pytest.raises(error, match=says):
        lifecycle.require_ready()


def test_work_is_taken_once_loaded() -> None:
    lifecycle = Lifecycle()
    lifecycle.loaded()
    lifecycle.require_ready()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param([report(LoadState.LOADING)], 0, id="nothing-new"),
        pytest.param([report(LoadState.LOADING, 4)], 0, id="small-step"),
        pytest.param([report(LoadState.LOADING, 5)], 1, id="step"),
        pytest.param([report(LoadState.LOADING, p) for p in range(101)], 20, id="0-to-100"),
        pytest.param([report(LoadState.WARMING)], 1, id="state"),
        pytest.param([Lifecycle.loaded, Lifecycle.drain], 2, id="states"),
    ],
)
def test_the_operator_hears_of_states_and_steps(steps: list[Step], told: int) -> None:
    async def run() -> int:
        lifecycle = Lifecycle()
        heard = 0

        async def listen() -> None:
            nonlocal heard
            while True:
                await lifecycle.changed()
                heard += 1

        listener = asyncio.create_task(listen())
        for step in steps:
            await asyncio.sleep(0)
            step(lifecycle)
            await asyncio.sleep(0)
        listener.cancel()
        return heard

    assert asyncio.run(run()) == told


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        pytest.param([Lifecycle.loaded], LoadState.WARMING, id="loaded"),
        pytest.param([Lifecycle.trusted], LoadState.LOADING, id="trusted"),
        pytest.param([Lifecycle.loaded, Lifecycle.trusted], LoadState.READY, id="both"),
        pytest.param([Lifecycle.trusted, Lifecycle.loaded], LoadState.READY, id="trust-first"),
        pytest.param(
            [Lifecycle.loaded, Lifecycle.drain, Lifecycle.trusted], LoadState.DRAINING, id="drain"
        ),
        pytest.param([Lifecycle.loaded, fail, Lifecycle.trusted], LoadState.FAILED, id="failed"),
    ],
)
def test_a_worker_that_asks_for_tokens_is_ready_once_it_knows_whose(
    steps: list[Step], state: LoadState
) -> None:
    lifecycle = Lifecycle(awaits_trust=True)
    for step in steps:
        step(lifecycle)
    assert lifecycle.state is state
    if state is not LoadState.READY:
        with pytest.raises(Unavailable):
            lifecycle.require_ready()
