"""What the tests with a real vLLM share: a model, its configuration, and a worker in a thread."""

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

import httpx
import psutil
import torch
from safetensors.torch import save_file

from modelworker_api.engine import VLLMConfig
from modelworker_api.wire import LoadState
from modelworker_server.app import create_app
from modelworker_server.http_server import server_for
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker, ModelConfig
from tests.support import eventually

T = TypeVar("T")

LOAD_SECONDS: Final = 400
CONTEXT: Final = 1024
ENGINE: Final[dict[str, Any]] = {"enforce_eager": True, "kv_cache_memory_bytes": 2**29}
"""Of a `VLLMConfig`: nothing is compiled, and a small cache for the KV."""
ENVIRONMENT: Final = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "GOMP_SPINCOUNT": "1000",
    "HF_HUB_OFFLINE": "1",
}


def smollm2_folder(target: Path) -> Path:
    """SmolLM2 as safetensors in this folder, written if it is not there; half a minute."""
    _example("fill_volume").write_safetensors(target)
    return target


def smollm2_config(folder: Path, **engine: Any) -> ModelConfig:
    """How the tests load it; `engine` goes into the `VLLMConfig`."""
    return ModelConfig(
        source="local",
        model=str(folder),
        name="policy",
        aliases=frozenset({"lab/policy"}),
        created=1_700_000_000,
        dtype="float32",
        max_model_len=CONTEXT,
        max_running=16,
        vllm=VLLMConfig(**{**ENGINE, **engine}),
    )


@dataclass
class Loop:
    """An event loop in a thread, for tests that are no coroutines."""

    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 120) -> T:
        """What `work` returns there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)


@contextmanager
def loop_in_thread() -> Iterator[Loop]:
    """A running loop until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield Loop(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@contextmanager
def loaded(loop: Loop, worker: BaseModelWorker) -> Iterator[None]:
    """The worker's engine runs until the block ends."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    loop.run(worker.load(_untold), LOAD_SECONDS)
    try:
        yield
    finally:
        loop.run(worker.close())


def _untold(_state: LoadState, _percent: int | None = None) -> None:
    pass


@contextmanager
def served(loop: Loop, state: ServerState, token: str | None = None) -> Iterator[str]:
    """The worker of a state behind a socket, as the worker's process serves it; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = server_for(create_app(state, token), native=True)
    serving = asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), loop.loop)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        serving.result(30)


@dataclass
class VLLMProcess:
    """`python -m modelworker_server --backend vllm`, the leader of a group of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    termination_log: Path

    @property
    def url(self) -> str:
        """Where it listens, by its own word."""
        marker = "listening on "
        text = eventually(
            self.log.read_text, until=lambda seen: marker in seen, timeout=60, what="address"
        )
        return text.split(marker)[1].split('"')[0]

    def wait_until_ready(self) -> None:
        """Return once it takes requests."""
        eventually(
            self._readiness, until=lambda code: code == 200, timeout=LOAD_SECONDS, what="readiness"
        )

    def engines(self) -> list[psutil.Process]:
        """The processes of its engine."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.name().startswith("VLLM::")]

    def _readiness(self) -> int:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        return httpx.get(f"{self.url}/readyz", timeout=30).status_code


@contextmanager
def vllm_process(folder: Path, directory: Path, *flags: str) -> Iterator[VLLMProcess]:
    """A worker process with the model of that folder; its files go into the directory."""
    log, last = directory / "log", directory / "termination-log"
    command = (
        sys.executable, "-m", "modelworker_server", "--backend", "vllm",
        "--vllm", json.dumps(ENGINE), "--model", str(folder), "--served-name", "policy",
        "--dtype", "float32", "--max-model-len", str(CONTEXT), "--port", "0",
        "--termination-log", str(last), *flags,
    )  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
    worker = VLLMProcess(process, log, last)
    engines: list[psutil.Process] = []
    try:
        yield worker
    finally:
        if process.poll() is None:
            engines = worker.engines()
            process.send_signal(signal.SIGKILL)
        process.wait(10)
        for engine in engines:
            if engine.is_running():
                engine.kill()


def write_adapter(folder: Path, *, seed: int, rank: int = 8, scale: float = 0.2) -> Path:
    """A LoRA adapter of SmolLM2 with random weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(30):
        for part, size in (("q_proj", 576), ("v_proj", 192)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            first = torch.randn(rank, 576, generator=generator) * scale
            weights[f"{name}.lora_A.weight"] = first
            weights[f"{name}.lora_B.weight"] = torch.randn(size, rank, generator=generator) * scale
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "smollm2",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def _example(name: str) -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
