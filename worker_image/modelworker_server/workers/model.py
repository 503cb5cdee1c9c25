"""The worker that runs a causal language model on transformers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from modelworker_api.wire import LoadState
from modelworker_server.errors import BadRequest, ContextTooLong, NotReady, Unavailable
from modelworker_server.workers.base import (
    BaseModelWorker,
    Load,
    Message,
    ModelConfig,
    ModelInfo,
    Progress,
    Sample,
    SamplingParams,
)
from modelworker_server.workers.engine import Engine
from modelworker_server.workers.loading import Loaded, load_failure, load_model
from modelworker_server.workers.runner import Runner
from modelworker_server.workers.scheduler import Scheduler
from modelworker_server.workers.sequences import Call, Delivery, Embedding, Generation
from modelworker_server.workers.tokens import Tokens

_STEP_TOKENS: Final = {"cpu": 512, "cuda": 4096}
"""Prompt tokens read between two decode steps: about a second's work on two CPU cores."""


class ModelWorker(BaseModelWorker):
    """Requests of many callers decoded together; greedy output equals `generate`'s."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._info: ModelInfo | None = None
        self._tokens: Tokens | None = None
        self._engine: Engine | None = None

    @property
    def info(self) -> ModelInfo:
        """What was loaded. Raises `NotReady` before `load` is done."""
        if self._info is None:
            raise _not_ready()
        return self._info

    async def load(self, progress: Progress) -> None:
        """Fetch and load the model, then answer one warm request.

        `progress` is called on the event loop.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """
        loop = asyncio.get_running_loop()

        def report(state: LoadState, percent: int | None) -> None:
            loop.call_soon_threadsafe(progress, state, percent)

        loaded = await asyncio.to_thread(load_model, self._config, report)
        self._tokens = Tokens(loaded.tokenizer)
        self._engine = _engine(loaded, self._tokens, self._config.max_running, loop)
        self._engine.start()
        progress(LoadState.WARMING, None)
        # Two tokens: one comes from reading a prompt, one from a decode step.
        warm = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
        try:
            await self._generate([0], warm)
        except Unavailable as error:
            raise load_failure(error.__cause__ or error) from error
        self._info = ModelInfo(
            name=self._config.name,
            aliases=self._config.aliases,
            root=self._config.model,
            revision=loaded.revision,
            dtype=loaded.dtype,
            max_model_len=loaded.max_model_len,
            created=self._config.created,
            vocab_size=loaded.vocab_size,
        )

    async def close(self) -> None:
        """Give back everything; calls still under way end with `Unavailable`."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)

    def alive(self) -> bool:
        """False when the engine has died and only a restart helps."""
        return self._engine is None or self._engine.alive()

    def load_now(self) -> Load:
        """How many requests are running and waiting inside the engine."""
        return Load() if self._engine is None else self._engine.load()

    # --- tokens ----------------------------------------------------------------------

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; BOS is not added to a text that begins with it."""
        return self._ready_tokens().encode(text, add_special_tokens=add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return self._ready_tokens().decode(token_ids, skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token as log-probabilities print it."""
        return self._ready_tokens().text_of(token_id)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """Token ids of a conversation by the model's chat template."""
        return self._ready_tokens().encode_chat(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    def conversation_template(self) -> str | None:
        """The model's chat template in Jinja, None if it has none."""
        return self._ready_tokens().template()

    # --- work ------------------------------------------------------------------------

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        """`params.n` samples for one prompt, in index order, complete."""
        self._check_prompt(prompt_ids, params)
        return await self._generate(prompt_ids, params)

    def stream(self, prompt_ids: Sequence[int], params: SamplingParams) -> AsyncIterator[Sample]:
        """The same, part by part as it is decoded; a bad request is refused at once."""
        self._check_prompt(prompt_ids, params)
        return self._stream(prompt_ids, params)

    async def embed(
        self, inputs: Sequence[Sequence[int]], *, pooling: str, normalize: bool
    ) -> list[list[float]]:
        """One vector of hidden size for each input."""
        limit = self.info.max_model_len
        for number, tokens in enumerate(inputs):
            if not tokens:
                raise BadRequest(f"input {number} is empty; send at least one token", param="input")
            if len(tokens) > limit:
                raise ContextTooLong(
                    f"this model's maximum context length is {limit} tokens, but input {number} "
                    f"has {len(tokens)}; shorten it",
                    param="input",
                )
        if not inputs:
            return []
        future = _future()
        call = Embedding(inputs, _settle(future), pooling=pooling, normalize=normalize)
        vectors = await self._result(call, future)
        assert isinstance(vectors, list)  # noqa: S101 - what an Embedding delivers
        return vectors

    async def _generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        future = _future()
        call = Generation(prompt_ids, params, _settle(future), streaming=False)
        samples = await self._result(call, future)
        assert isinstance(samples, tuple)  # noqa: S101 - what a Generation delivers
        return samples

    async def _stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncIterator[Sample]:
        parts: asyncio.Queue[Delivery] = asyncio.Queue()
        call = Generation(prompt_ids, params, parts.put_nowait, streaming=True)
        self._ready_engine().submit(call)
        try:
            while (part := await parts.get()) is not None:
                if isinstance(part, Exception):
                    raise part
                assert isinstance(part, Sample)  # noqa: S101 - what a stream delivers
                yield part
        finally:
            call.cancelled = True

    async def _result(self, call: Call, future: "asyncio.Future[Delivery]") -> Delivery:
        self._ready_engine().submit(call)
        try:
            return await future
        finally:
            call.cancelled = True

    def _check_prompt(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        limit = self.info.max_model_len
        if not prompt_ids:
            raise BadRequest("the prompt is empty; send at least one token", param="prompt")
        if (total := len(prompt_ids) + params.max_tokens) > limit:
            raise ContextTooLong(
                f"this model's maximum context length is {limit} tokens, but {total} were asked "
                f"for: {len(prompt_ids)} in the prompt and {params.max_tokens} to generate; "
                "shorten the prompt or lower max_tokens"
            )

    def _ready_engine(self) -> Engine:
        if self._engine is None:
            raise _not_ready()
        return self._engine

    def _ready_tokens(self) -> Tokens:
        if self._tokens is None:
            raise _not_ready()
        return self._tokens


def _engine(
    loaded: Loaded, tokens: Tokens, max_running: int, loop: asyncio.AbstractEventLoop
) -> Engine:
    runner = Runner(loaded.model, layers=loaded.layers, max_rows=max_running)
    scheduler = Scheduler(
        runner,
        max_running=max_running,
        step_tokens=_STEP_TOKENS[runner.device.type],
        eos_ids=loaded.eos_ids,
        decode=tokens.decode,
    )
    return Engine(scheduler, loop.call_soon_threadsafe)


def _future() -> "asyncio.Future[Delivery]":
    return asyncio.get_running_loop().create_future()


def _settle(future: "asyncio.Future[Delivery]") -> Callable[[Delivery], None]:
    def settle(delivery: Delivery) -> None:
        if future.done():
            return
        if isinstance(delivery, Exception):
            future.set_exception(delivery)
        else:
            future.set_result(delivery)

    return settle


def _not_ready() -> NotReady:
    return NotReady("the model is not loaded yet; /readyz says when it is")
