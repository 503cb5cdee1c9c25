"""A worker process with secrets: nobody is told of them, and it writes where it may."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from modelworker_api import wire
from tests.fake_hub import COMMIT, Hub, serving
from tests.own_code import save_own
from tests.support import eventually
from tests.token_support import Issuer

ENGINE = {"enforce_eager": True, "kv_cache_memory_bytes": 2**26}
"""Nothing is compiled, and the cache for the KV is small."""

HUB_TOKEN = "hf_canarycanarycanarycanarycanary"
HEARTBEAT_TOKEN = "heartbeat-canary-canary"
ISSUER = Issuer("key-1", "ES256")
READY_SECONDS = 400
VLLM = ("--backend", "vllm", "--dtype", "float32", "--vllm", json.dumps(ENGINE))

AUDIT = """
import os, sys

_log = os.open(os.environ["WRITTEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1}


def _note(event, arguments):
    if event == "open":
        path, _, flags = arguments
        written = isinstance(flags, int) and flags & _WRITES
    elif event in _CHANGES:
        path = arguments[_CHANGES[event]]
        written = event != "os.mkdir" or not os.path.isdir(path)
    else:
        return
    if written and isinstance(path, (str, bytes, os.PathLike)):
        os.write(_log, os.path.abspath(os.fsencode(path)) + b"\\n")


sys.addaudithook(_note)
"""
"""Notes the files and folders that a process and its children make or write."""


@dataclass
class Operator:
    """What the worker told, and with which tokens."""

    url: str = ""
    beats: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    @property
    def states(self) -> list[str]:
        return [json.loads(beat)["state"] for beat in self.beats]


@contextmanager
def operator() -> Iterator[Operator]:
    """A listener for heartbeats that answers with whose tokens to take."""
    heard = Operator()
    reply = wire.HeartbeatReply(interval_seconds=1, trust=ISSUER.trust()).model_dump_json().encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.tokens.add(self.headers.get("Authorization"))
            heard.beats.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            """What was asked is in `heard`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    heard.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Worker:
    """A worker process, and all that it leaves behind."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def url(self) -> str:
        return next(
            part.strip('"') for part in self.log.split() if part.startswith("http://127.0.0.1:")
        )

    def written(self) -> set[Path]:
        return {Path(line) for line in (self.folder / "written").read_text().splitlines()}


@contextmanager
def worker(folder: Path, hub: Hub, operator: Operator, *flags: str) -> Iterator[Worker]:
    """A worker as its pod runs it: a home and a folder for scratch files, and secrets."""
    for name in ("home", "scratch", "python"):
        (folder / name).mkdir()
    (folder / "python" / "sitecustomize.py").write_text(AUDIT)
    (folder / "token").write_text(HEARTBEAT_TOKEN)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "scratch"),
        "WRITTEN": str(folder / "written"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": HUB_TOKEN,
        "MODELWORKER_MODEL": "acme/own",
        "MODELWORKER_REVISION": COMMIT,
        "MODELWORKER_AUTH": "token",
        "MODELWORKER_TRUST_REMOTE_CODE": "true",
        "MODELWORKER_PORT": "0",
        "MODELWORKER_LOG_LEVEL": "debug",
        "MODELWORKER_HEARTBEAT_URL": operator.url,
        "MODELWORKER_HEARTBEAT_TOKEN_FILE": str(folder / "token"),
        "MODELWORKER_TERMINATION_LOG": str(folder / "scratch" / "termination-log"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelworker_server", *flags],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            yield Worker(process, folder)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_own(tmp_path_factory.mktemp("own"))


def without_secrets(worker: Worker, operator: Operator, *said: str) -> None:
    """Check that no secret is in what a worker said anywhere."""
    arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    for place in (worker.log, *operator.beats, arguments, *said):
        for secret in (HUB_TOKEN, HEARTBEAT_TOKEN):
            assert secret not in place
            assert secret[4:] not in place


@pytest.mark.parametrize("flags", [(), VLLM], ids=["transformers", "vllm"])
def test_a_worker_that_serves_tells_no_secret_and_writes_where_it_may(
    flags: tuple[str, ...], own: Path, tmp_path: Path
) -> None:
    if flags == VLLM:
        pytest.importorskip("vllm")
    with (
        serving(Hub("acme/own", own, token=HUB_TOKEN)) as hub,
        operator() as heard,
        worker(tmp_path, hub, heard, *flags) as running,
    ):
        eventually(
            lambda: heard.states[-1],
            until=lambda state: state in ("Ready", "Failed"),
            timeout=READY_SECONDS,
            what="end of the load",
        )
        assert heard.states[-1] == "Ready", heard.beats[-1]
        token = ISSUER.token(now=time.time())
        with httpx.Client(base_url=running.url(), timeout=60) as client:
            answer = client.post(
                "/v1/completions",
                json={"prompt": "a", "max_tokens": 4},
                headers={"authorization": f"Bearer {token}"},
            )
            assert answer.status_code == 200, answer.text
            refused = client.post("/v1/completions", headers={"x-api-key": token[:-9]})
            assert refused.status_code == 401
            told = [
                response.text
                for response in (
                    refused,
                    *(client.get(path) for path in ("/metrics", "/healthz", "/nothing")),
                    client.get("/v1/models", headers={"x-api-key": token}),
                )
            ]
        assert hub.tokens == {HUB_TOKEN}
        assert heard.tokens == {f"Bearer {HEARTBEAT_TOKEN}"}
        without_secrets(running, heard, *told)
        assert token[-20:] not in running.log
        allowed = (tmp_path / "home", tmp_path / "scratch", Path("/dev"), Path("/proc"))
        elsewhere = {
            path for path in running.written() if not any(map(path.is_relative_to, allowed))
        }
        assert not elsewhere
        # The check above sees what is written: the weights, and the code that may run.
        homes = {path.name for path in running.written() if path.is_relative_to(allowed[0])}
        assert any("model.safetensors" in name for name in homes)
        assert any(
            path.is_relative_to(allowed[1]) and path.name == "configuration_own.py"
            for path in running.written()
        )


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        pytest.param({"token": "another"}, "ModelUnauthorized", id="denied"),
        pytest.param({"token": "another", "gated": True}, "ModelUnauthorized", id="gated"),
        pytest.param({"repo": "acme/other"}, "ModelNotFound", id="not-found"),
    ],
)
def test_a_worker_that_fails_tells_no_secret(
    served: dict[str, Any], reason: str, own: Path, tmp_path: Path
) -> None:
    with (
        serving(Hub(**{"repo": "acme/own", "folder": own, **served})) as hub,
        operator() as heard,
        worker(tmp_path, hub, heard) as running,
    ):
        eventually(lambda: heard.states[-1] == "Failed", timeout=READY_SECONDS, what="Failed")
        log = tmp_path / "scratch" / "termination-log"
        assert hub.tokens == {HUB_TOKEN}
        without_secrets(running, heard, log.read_text())
        assert running.process.wait(30) == 1
        assert log.read_text().startswith(reason)
        assert HUB_TOKEN not in running.log
