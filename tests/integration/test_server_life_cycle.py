"""The life of the process with a worker that the test controls, over real sockets."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelworker_api import wire
from modelworker_server.adapting import Adapting
from modelworker_server.app import create_app
from modelworker_server.errors import LoadError, Unavailable
from modelworker_server.http_server import server_for
from modelworker_server.process import Process, Stop
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker
from tests.fake_worker import FakeWorker, text_of
from tests.server_support import state_for
from tests.support import eventually


class Life:
    """A process, and a client that talks to it."""

    def __init__(
        self, worker: FakeWorker, state: ServerState, stop: Stop, client: httpx.AsyncClient
    ) -> None:
        self.worker = worker
        self.state = state
        self.stop = stop
        self.client = client

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(eventually, holds, what=what, timeout=10, interval=0.005)

    async def ready(self) -> None:
        await self.until(lambda: self.state.lifecycle.has_model, "a loaded model")

    def post(self, **body: Any) -> asyncio.Task[httpx.Response]:
        body = {"prompt": "a", "max_tokens": 3, **body}
        return asyncio.create_task(self.client.post("/v1/completions", json=body))


def live(
    script: Callable[[Life], Awaitable[None]],
    worker: FakeWorker,
    *,
    drain_seconds: float = 10,
    termination_log: Path | None = None,
) -> int:
    """The exit code of a process beside which a script runs."""

    async def run() -> int:
        stop = Stop()
        state = state_for(worker, ready=False)
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def create_worker() -> BaseModelWorker:
            return worker

        process = Process(
            state=state,
            server=server_for(create_app(state)),
            listener=listener,
            heartbeats=None,
            adapting=Adapting(state),
            stop=stop,
            create_worker=create_worker,
            drain_seconds=drain_seconds,
            termination_log=termination_log,
        )
        running = asyncio.create_task(process.run())
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            await script(Life(worker, state, stop, client))
            async with asyncio.timeout(20):
                return await running

    return asyncio.run(run())


def test_it_listens_while_it_loads_and_is_ready_only_then() -> None:
    worker = FakeWorker()
    worker.load_gate = asyncio.Event()

    async def script(life: Life) -> None:
        await life.until(lambda: life.state.lifecycle.progress == 40, "progress")
        assert (await life.client.get("/healthz")).status_code == 200
        unready = await life.client.get("/readyz")
        assert unready.status_code == 503
        assert "Loading, 40 %" in unready.json()["message"]
        assert (await life.post()).status_code == 503
        assert worker.load_gate is not None
        worker.load_gate.set()
        await life.ready()
        assert (await life.client.get("/readyz")).status_code == 200
        assert (await life.post()).json()["choices"][0]["text"] == text_of("a", 0, 3)
        life.stop.ask()

    assert live(script, worker) == 0
    assert worker.closed


def test_a_drain_answers_what_was_accepted_and_refuses_the_rest() -> None:
    worker = FakeWorker()
    gate: list[asyncio.Event] = []

    async def script(life: Life) -> None:
        gate.append(asyncio.Event())
        worker.step = gate[0].wait
        await life.ready()
        # Four run, and the rest waits: all of them were accepted.
        accepted = [life.post(prompt=f"p{i}", stream=i % 2 == 1) for i in range(8)]
        await life.until(lambda: worker.active == 8, "running calls")
        life.stop.ask()
        await life.until(lambda: life.state.lifecycle.state == wire.LoadState.DRAINING, "drain")
        assert (await life.client.get("/readyz")).status_code == 503
        assert (await life.client.get("/healthz")).status_code == 200
        refused = await life.post()
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "unavailable"
        gate[0].set()
        for i, task in enumerate(accepted):
            response = await task
            assert response.status_code == 200
            if i % 2:
                assert response.text.endswith("data: [DONE]\n\n")
            else:
                assert response.json()["choices"][0]["text"] == text_of(f"p{i}", 0, 3)

    assert live(script, worker) == 0
    assert worker.cancelled == 0


@pytest.mark.parametrize(
    ("drain_seconds", "signals"),
    [pytest.param(0.2, 1, id="deadline"), pytest.param(60, 2, id="second-signal")],
)
def test_what_is_not_done_in_time_is_cut_off_with_an_error(
    drain_seconds: float, signals: int
) -> None:
    class Closing(FakeWorker):
        """Ends its calls with an error when it is closed, as the contract says."""

        def __init__(self) -> None:
            super().__init__()
            self.over = asyncio.Event()
            self.step = self.wait

        async def wait(self) -> None:
            await self.over.wait()
            raise Unavailable("the worker is closed")

        async def close(self) -> None:
            await super().close()
            self.over.set()

    worker = Closing()
    responses: list[asyncio.Task[httpx.Response]] = []

    async def script(life: Life) -> None:
        await life.ready()
        responses.extend(life.post(prompt=f"p{i}") for i in range(3))
        await life.until(lambda: worker.active == 3, "running calls")
        for _ in range(signals):
            life.stop.ask()
        for task in responses:
            assert (await task).status_code == 503

    assert live(script, worker, drain_seconds=drain_seconds) == 1


def test_a_signal_while_loading_ends_cleanly() -> None:
    worker = FakeWorker()
    worker.load_gate = asyncio.Event()

    async def script(life: Life) -> None:
        await life.until(lambda: life.state.lifecycle.progress == 40, "progress")
        life.stop.ask()

    assert live(script, worker) == 0


def test_a_failed_load_leaves_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = FakeWorker()
    worker.load_error = LoadError(wire.FailureReason.MODEL_NOT_FOUND, "no config.json\nin /x")

    async def script(life: Life) -> None:
        await life.until(lambda: life.state.lifecycle.state == wire.LoadState.FAILED, "failure")

    log = tmp_path / "termination-log"
    assert live(script, worker, termination_log=log) == 1
    line = "ModelNotFound: no config.json in /x\n"
    assert log.read_text() == line
    assert line in capsys.readouterr().err


def test_an_unexpected_failure_of_the_load_has_a_reason_too(tmp_path: Path) -> None:
    worker = FakeWorker()
    worker.load_error = RuntimeError("x" * 9000)  # type: ignore[assignment]

    async def script(life: Life) -> None:
        await life.until(lambda: life.state.lifecycle.state == wire.LoadState.FAILED, "failure")
        assert life.state.heartbeat().reason is wire.FailureReason.LOAD_FAILED
        assert len(life.state.heartbeat().message) == 1024

    log = tmp_path / "termination-log"
    assert live(script, worker, termination_log=log) == 1
    assert log.read_text().startswith("LoadFailed: RuntimeError: xxx")
    assert log.stat().st_size == 4096


@pytest.mark.parametrize("draining", [False, True], ids=["serving", "draining"])
def test_an_engine_that_dies_ends_the_process(draining: bool, tmp_path: Path) -> None:
    worker = FakeWorker()
    abandoned: list[object] = []

    async def script(life: Life) -> None:
        never = asyncio.Event()
        worker.step = never.wait
        await life.ready()
        abandoned.append(asyncio.gather(life.post(), return_exceptions=True))
        await life.until(lambda: worker.active == 1, "a running call")
        if draining:
            life.stop.ask()
        worker.living = False
        assert (await life.client.get("/healthz")).status_code == 503

    log = tmp_path / "termination-log"
    assert live(script, worker, termination_log=log) == 1
    assert log.read_text().startswith("EngineDied: ")
