"""A worker without a model: its tokens are bytes, its answers are known beforehand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelworker_api import wire
from modelworker_server.errors import LoadError, WorkerError
from modelworker_server.workers.base import (
    BaseModelWorker,
    Load,
    Message,
    ModelInfo,
    Progress,
    Sample,
    SamplingParams,
    TokenLogprob,
)

INFO = ModelInfo(
    name="policy",
    aliases=frozenset({"lab/policy", "org/policy-1b"}),
    root="/models/policy",
    revision="rev-1",
    dtype="float32",
    max_model_len=512,
    created=1_700_000_000,
    vocab_size=256,
)


def token_at(prompt_ids: Sequence[int], index: int, position: int) -> int:
    """The token that a sample has at a position: a lower-case letter."""
    return ord("a") + (sum(prompt_ids) + index + position) % 26


def text_of(prompt: str, index: int, length: int) -> str:
    """The text of a whole sample."""
    ids = list(prompt.encode())
    return "".join(chr(token_at(ids, index, position)) for position in range(length))


def given_logprob(token_ids: Sequence[int], position: int, top: int) -> TokenLogprob:
    """What the token at a position gets when it is scored; the position is its rank."""
    likeliest = tuple((ord("A") + i, -0.125 - i) for i in range(top))
    return TokenLogprob(token_ids[position], -0.25 * position, likeliest, position)


class FakeWorker(BaseModelWorker):
    """Deterministic, with a controllable pace.

    `step` is awaited before each token; `cancelled` counts the calls that were ended.
    """

    def __init__(self) -> None:
        self.step: Callable[[], object] = lambda: asyncio.sleep(0)
        self.fail_at: int | None = None
        self.failure: Exception = WorkerError("the engine stumbled")
        self.finish_reason = "length"
        self.load_error: LoadError | None = None
        self.load_gate: asyncio.Event | None = None
        self.living = True
        self.closed = False
        self.active = 0
        self.started = 0
        self.cancelled = 0
        self.encoded_in: set[threading.Thread] = set()
        self.seen: list[SamplingParams] = []
        self.conversations: list[tuple[list[Message], bool, bool]] = []

    @property
    def info(self) -> ModelInfo:
        return INFO

    async def load(self, progress: Progress) -> None:
        progress(wire.LoadState.DOWNLOADING, 0)
        progress(wire.LoadState.LOADING, 40)
        if self.load_gate is not None:
            await self.load_gate.wait()
        if self.load_error is not None:
            raise self.load_error
        progress(wire.LoadState.WARMING, None)

    async def close(self) -> None:
        self.closed = True

    def alive(self) -> bool:
        return self.living

    def load_now(self) -> Load:
        return Load(running=self.active)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.encoded_in.add(threading.current_thread())
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(token_ids).decode(errors="replace")

    def token_text(self, token_id: int) -> str:
        return self.decode([token_id])

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        self.conversations.append((list(messages), add_generation_prompt, continue_final_message))
        return self.encode("|".join(f"{m.role}:{m.content}" for m in messages))

    def conversation_template(self) -> str | None:
        return None

    def tokenizer_info(self) -> Mapping[str, Any]:
        return {"tokenizer_class": "Bytes", "eos_token": "</s>", "add_bos_token": False}

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        parts = [part async for part in self.stream(prompt_ids, params)]
        return tuple(_joined(index, parts) for index in range(params.n))

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncIterator[Sample]:
        self.seen.append(params)
        with self._call():
            for position in range(params.max_tokens):
                for index in range(params.n):
                    await self.step()  # type: ignore[misc]
                    if position == self.fail_at:
                        raise self.failure
                    yield self._part(prompt_ids, params, index, position)

    async def embed(
        self, inputs: Sequence[Sequence[int]], *, pooling: str | None, normalize: bool
    ) -> list[list[float]]:
        with self._call():
            await self.step()  # type: ignore[misc]
            return [[float(len(ids)), 0.5, -1.0 if pooling == "last" else 1.0] for ids in inputs]

    async def score_tokens(
        self, token_ids: Sequence[int], *, top: int, start: int = 1
    ) -> tuple[TokenLogprob, ...]:
        with self._call():
            await self.step()  # type: ignore[misc]
            return tuple(
                given_logprob(token_ids, position, top) for position in range(start, len(token_ids))
            )

    def _part(
        self, prompt_ids: Sequence[int], params: SamplingParams, index: int, position: int
    ) -> Sample:
        token = token_at(prompt_ids, index, position)
        logprobs = None
        if params.logprobs is not None:
            top = tuple((ord("A") + i, -1.0 - i) for i in range(params.logprobs))
            logprobs = (TokenLogprob(token, -0.5 * (position + 1), top),)
        last = position == params.max_tokens - 1
        return Sample(
            index=index,
            text=chr(token),
            token_ids=(token,),
            logprobs=logprobs,
            finish_reason=self.finish_reason if last else None,
        )

    @contextmanager
    def _call(self) -> Iterator[None]:
        self.active += 1
        self.started += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.active -= 1


def _joined(index: int, parts: Sequence[Sample]) -> Sample:
    mine = [part for part in parts if part.index == index]
    asked = mine[0].logprobs is not None
    return Sample(
        index=index,
        text="".join(part.text for part in mine),
        token_ids=tuple(token for part in mine for token in part.token_ids),
        logprobs=tuple(token for part in mine for token in part.logprobs or ()) if asked else None,
        finish_reason=mine[-1].finish_reason,
    )
