"""A worker process with vLLM: how it ends, and that its engine ends with it and not before."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

pytest.importorskip("vllm")

from tests.support import eventually
from tests.vllm_support import VLLMProcess, smollm2_folder, vllm_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smollm2_folder(tmp_path_factory.mktemp("models") / "smollm2")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def ask(worker: VLLMProcess, tokens: int, *, stream: bool = False) -> httpx.Response:
    body = {"prompt": "a", "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    return httpx.post(f"{worker.url}/v1/completions", json=body, timeout=120)


def running(worker: VLLMProcess) -> int:
    """Sequences that the engine decodes now."""
    return int(httpx.get(f"{worker.url}/version", timeout=30).headers["x-modelworker-load"][0])


def gone(processes: list[psutil.Process]) -> bool:
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def test_a_signal_to_the_whole_group_drains(
    folder: Path, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    with vllm_process(folder, tmp_path, "--drain-seconds", "60") as worker:
        worker.wait_until_ready()
        engines = worker.engines()
        assert len(engines) >= 1
        answers: list[Future[httpx.Response]] = [
            threads.submit(ask, worker, 64, stream=number % 2 == 0) for number in range(6)
        ]
        eventually(lambda: running(worker), until=lambda seen: seen == 6, what="six running")
        os.killpg(worker.process.pid, signal.SIGTERM)
        late = eventually(
            lambda: ask(worker, 1), until=lambda seen: seen.status_code == 503, what="refusal"
        )
        assert "shutting down" in late.json()["message"]
        for answer in answers:
            assert answer.result().status_code == 200
            assert '"error"' not in answer.result().text
        assert worker.process.wait(30) == 0, worker.log.read_text()[-3000:]
        eventually(lambda: gone(engines), what="end of the engine")
        assert not worker.termination_log.exists()


def test_an_engine_that_is_killed_ends_the_worker_and_every_request(
    folder: Path, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    with vllm_process(folder, tmp_path) as worker:
        worker.wait_until_ready()
        engines = worker.engines()
        whole = threads.submit(ask, worker, 900)
        streamed = threads.submit(ask, worker, 900, stream=True)
        eventually(lambda: running(worker), until=lambda seen: seen == 2, what="two running")
        next(one for one in engines if one.name().startswith("VLLM::EngineCor")).kill()
        answer = whole.result(timeout=20)
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "unavailable"
        events = streamed.result(timeout=20).text.split("\n\n")
        (error,) = [json.loads(one[6:]) for one in events if one.startswith('data: {"object":"e')]
        assert (error["code"], error["error"]["type"]) == (503, "unavailable")
        assert worker.process.wait(30) == 1
        assert worker.termination_log.read_text().startswith("EngineDied: ")
        eventually(lambda: gone(engines), what="end of the engine")


def test_a_worker_that_is_killed_leaves_no_engine_behind(folder: Path, tmp_path: Path) -> None:
    with vllm_process(folder, tmp_path) as worker:
        # The engine prepares for its parent's end before it loads anything.
        engines = eventually(
            worker.engines, until=lambda seen: len(seen) >= 2, timeout=200, what="engine processes"
        )
        worker.process.kill()
        eventually(lambda: gone(engines), timeout=30, what="end of the engine")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param(("--max-model-len", "100000"), "ModelTooLong: ", id="too-long"),
        pytest.param(("--gguf-file", "x.gguf"), "ModelUnsupported: ", id="gguf"),
        pytest.param(
            ("--vllm", '{"extra_args": ["--no-such-flag"]}'), "LoadFailed: ", id="unknown-flag"
        ),
        pytest.param(
            ("--vllm", '{"enforce_eager": true, "kv_cache_memory_bytes": 1048576}'),
            "InsufficientMemory: ",
            id="cache-too-small",
        ),
    ],
)
def test_a_load_that_fails_says_why(
    folder: Path, tmp_path: Path, flags: tuple[str, ...], reason: str
) -> None:
    with vllm_process(folder, tmp_path, *flags) as worker:
        assert worker.process.wait(300) == 1
        said = worker.termination_log.read_text()
        assert said.startswith(reason), said
        assert len(said.splitlines()) == 1
