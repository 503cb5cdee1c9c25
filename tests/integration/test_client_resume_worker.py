"""Streams of the real worker that are cut, or whose worker is killed: the answer is the one
that a single worker gives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelworker import LM, Chunk
from tests.client_support import lm, workers
from tests.engine_support import save
from tests.stream_support import Relay
from tests.support import eventually

TOKENS = 24
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": TOKENS}


@dataclass
class Worker:
    """A worker process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where it listens, by its own word."""
        marker = "listening on "
        text = eventually(
            self.log.read_text,
            until=lambda seen: marker in seen or self.process.poll() is not None,
            timeout=120,
            what="address in the log",
        )
        assert marker in text, text
        return text.split(marker)[1].split('"')[0]

    def ready(self) -> bool:
        """Whether it serves."""
        assert self.process.poll() is None, self.log.read_text()
        return httpx.get(f"{self.url}/readyz", timeout=30).is_success


@contextmanager
def served(model: Path, log: Path) -> Iterator[Worker]:
    env = {
        "MODELWORKER_MODEL": str(model),
        "MODELWORKER_SOURCE": "local",
        "MODELWORKER_NAME": "policy",
        "MODELWORKER_HOST": "127.0.0.1",
        "MODELWORKER_PORT": "0",
        "OMP_NUM_THREADS": "1",
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "modelworker_server"],
            env=kept | env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Worker(child, log)
    finally:
        child.kill()
        child.wait(30)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers of one model; a test may kill the first."""
    folder = tmp_path_factory.mktemp("pair")
    model = save(folder / "model")
    with ExitStack() as stack:
        running = [stack.enter_context(served(model, folder / f"log-{i}")) for i in range(2)]
        for one in running:
            eventually(one.ready, timeout=240, what="ready worker")
        yield running


def stream(client: LM, route: str, options: dict[str, Any]) -> Iterator[Chunk]:
    if route == "chat":
        return client.stream_chat([{"role": "user", "content": "so far"}], **options)
    return client.stream("so far", **options)


def told(chunks: list[Chunk]) -> tuple[Any, ...]:
    """Text, token ids and how they ended."""
    return (
        "".join(chunk.text for chunk in chunks),
        [token for chunk in chunks for token in chunk.token_ids or ()],
        [(c.finish_reason, c.stop_reason) for c in chunks if c.finish_reason],
    )


def values(chunks: list[Chunk]) -> list[float]:
    return [value for chunk in chunks for value in chunk.logprobs or ()]


@pytest.mark.parametrize("route", ["completions", "chat"])
@pytest.mark.parametrize("stop", [None, "dropped", "kept"])
def test_greedy_goes_on_token_for_token(pair: list[Worker], route: str, stop: str | None) -> None:
    relay = Relay(pair[1].url)
    with workers(relay) as running, lm(running) as client:
        options = dict(GREEDY)
        if stop is not None:
            # Long enough to lie over several of the model's tokens, which are bytes.
            text = told(list(stream(client, route, options)))[0]
            options |= {"stop": [text[12:16], "never"]}
            options["include_stop_str_in_output"] = stop == "kept"
        whole = list(stream(client, route, options))
        for cut in range(1, len(whole)):
            relay.cuts = [cut]
            parts = list(stream(client, route, options))
            assert told(parts) == told(whole), f"cut after {cut} parts"
            assert values(parts) == pytest.approx(values(whole), abs=1e-4)


def resumed(worker: Worker) -> float:
    """Requests for what a stream that went on here had held back."""
    lines = httpx.get(f"{worker.url}/metrics", timeout=30).text.splitlines()
    counts = [line for line in lines if line.startswith("modelworker_requests_total{")]
    return sum(float(line.split()[-1]) for line in counts if "/detokenize" in line)


def test_a_killed_worker_loses_and_doubles_no_token(pair: list[Worker]) -> None:
    dying, other = pair
    options = {**GREEDY, "max_tokens": 400, "ignore_eos": True}
    with LM("policy", endpoints=[other.url]) as client:
        expected = told(list(client.stream("so far", **options)))
    assert len(expected[1]) == 400
    before = resumed(other)
    with LM("policy", endpoints=[dying.url, other.url]) as client:
        for _ in range(50):
            parts = client.stream("so far", **options)
            received = [next(parts)]
            if client.in_flight() == {dying.url: 1}:
                break
            parts.close()
        dying.process.kill()
        received.extend(parts)
    assert told(received) == expected
    assert resumed(other) > before
