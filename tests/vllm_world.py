"""A real vLLM worker behind a socket, for the tests that share one engine."""

import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from modelworker_api import wire
from modelworker_api.adapters import Adapter
from modelworker_server.state import ServerState
from modelworker_server.workers.base import Sample, SamplingParams
from modelworker_server.workers.registry import create
from tests.server_support import state_for
from tests.vllm_support import Loop, loaded, loop_in_thread, served, smollm2_config

TOKEN: Final = "open-sesame"
PROMPT: Final = "The capital of France is"
COMPLETIONS: Final = "/v1/completions"

BAD_INPUTS: Final = [
    pytest.param(COMPLETIONS, b'{"prompt": "\\ud800"}', "JSON", id="lone-surrogate"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "temperature": NaN}', "JSON", id="nan"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "temperature": -1}', "temp", id="negative"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "temperature": 1e308}', "temp", id="huge"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "max_tokens": 1000000000}', "max", id="max"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "n": 100000}', "n is", id="n"),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "stop": [""]}', "stop", id="stop"),
    pytest.param(COMPLETIONS, b'{"prompt": []}', "prompt", id="no-prompt"),
    pytest.param(COMPLETIONS, b'{"prompt": [10000000]}', "vocabulary", id="unknown-token"),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "logit_bias": {"999999": 1}}', "logit_bias", id="bias"
    ),
    pytest.param(
        COMPLETIONS,
        b'{"prompt": "a", "structured_outputs": {"regex": "((((("}}',
        "regex",
        id="bad-regex",
    ),
    pytest.param(
        COMPLETIONS,
        json.dumps(
            {"prompt": "a", "structured_outputs": {"json": {"enum": ["v" * 9] * 9000}}}
        ).encode(),
        "structured_outputs",
        id="grammar-bomb",
    ),
    pytest.param("/v1/chat/completions", b'{"messages": []}', "message", id="no-messages"),
    pytest.param(
        "/v1/chat/completions",
        json.dumps({"messages": [{"role": "user", "content": ""}] * 20_000}).encode(),
        "messages",
        id="messages",
    ),
    pytest.param(
        "/v1/chat/completions",
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", '
        b'"image_url": {"url": "http://169.254.169.254/"}}]}]}',
        "multimodal",
        id="image",
    ),
    pytest.param("/detokenize", b'{"tokens": [1000000000]}', "tokens", id="detokenize"),
]
"""Path, body, and words of the reason: what no request may make an engine fail at."""


@dataclass
class World:
    """The worker, its server and a client of it."""

    worker: Any
    loop: Loop
    state: ServerState
    url: str
    folder: Path
    client: httpx.Client

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        response = self.client.post(path, json={"model": "policy", **body})
        assert response.status_code == status, response.text
        return response.json()

    def generate(self, prompt: str = PROMPT, **params: Any) -> tuple[Sample, ...]:
        wanted = SamplingParams(**{"max_tokens": 8, "temperature": 0.0, **params})
        ids = self.worker.encode(prompt)
        return self.loop.run(self.worker.generate(ids, wanted))

    def stream(self, **params: Any) -> list[Sample]:
        wanted = SamplingParams(**{"max_tokens": 8, "temperature": 0.0, **params})

        async def read() -> list[Sample]:
            return [part async for part in self.worker.stream(self.worker.encode(PROMPT), wanted)]

        return self.loop.run(read())

    def load(self) -> list[str]:
        return self.client.get("/version").headers[wire.HEADER_LOAD].split()

    def want(self, **places: Path) -> dict[str, str]:
        """Ask for the adapters in these folders; the state of each."""
        wanted = [
            Adapter(name=name, source="local", location=str(place))
            for name, place in places.items()
        ]
        self.loop.run(self.worker.want_adapters(wanted))
        return {report.name: report.state.value for report in self.worker.adapters}

    def text(self, model: str, status: int = 200) -> str:
        """What a model or adapter says, or the type of its error."""
        body = {"model": model, "prompt": PROMPT, "max_tokens": 6, "temperature": 0}
        answer = self.post(COMPLETIONS, status, **body)
        return str(answer["choices"][0]["text"] if status == 200 else answer["error"]["type"])

    @contextmanager
    def asking(self, body: dict[str, Any]) -> Iterator[None]:
        """A completion whose client waits until the block ends, and then leaves."""
        url = urlsplit(self.url)
        content = json.dumps({"model": "policy", "prompt": "a", **body}).encode()
        head = (
            f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
            connection.sendall(head.encode() + content)
            yield

    @contextmanager
    def trimming_template(self) -> Iterator[None]:
        """The model's chat template, but one that trims every message."""
        tokenizer = self.worker._engine.get_tokenizer()
        before = tokenizer.chat_template
        changed = before.replace("message['content']", "message['content'] | trim")
        assert changed != before
        tokenizer.chat_template = changed
        try:
            yield
        finally:
            tokenizer.chat_template = before

    def alone(self, ids: list[int], params: Any) -> Any:
        """The output of the engine itself, without a worker around it."""

        async def last() -> Any:
            prompt = {"prompt_token_ids": ids}
            async for output in self.worker._engine.generate(prompt, params, str(uuid4())):
                final = output.outputs[0]
            return final

        return self.loop.run(last())


def random_request(chance: random.Random, seed: int) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """A prompt, sampling parameters that all three ways to ask call alike, and stop strings."""
    words = ["The", " sky", " is", " 2", " +", "\n", " Paris", " because", " of", " def"]
    prompt = "".join(chance.choices(words, k=chance.randint(1, 12)))
    params = {
        "max_tokens": chance.randint(1, 10),
        "temperature": chance.choice([0.0, 0.7, 1.3]),
        "top_p": chance.choice([1.0, 0.9]),
        "seed": seed,
        "logprobs": 0,
    }
    return prompt, params, chance.choice([(), (".",), ("\n", "a")])


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """The worker with the model of that folder, with adapters and development routes."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    with loop_in_thread() as loop:
        worker: Any = create("vllm", smollm2_config(folder, max_lora_rank=8, max_loras=2))
        with loaded(loop, worker):

            async def made() -> ServerState:
                return state_for(worker, max_running=16, max_queued=240, max_body_bytes=2**20)

            state = loop.run(made())
            with served(loop, state, TOKEN) as url, httpx.Client(base_url=url, timeout=120) as http:
                yield World(worker, loop, state, url, folder, http)
