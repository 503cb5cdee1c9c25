"""The worker that runs a causal language model on transformers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

from modelworker_api.wire import LoadState
from modelworker_server.errors import BadRequest, ContextTooLong, Unavailable
from modelworker_server.workers.base import Progress, Sample, SamplingParams, TokenLogprob
from modelworker_server.workers.engine import Engine
from modelworker_server.workers.inputs import Embedding, Scoring
from modelworker_server.workers.loading import Loaded, load_failure, load_model
from modelworker_server.workers.local import LocalWorker, on_the_loop
from modelworker_server.workers.runner import Runner
from modelworker_server.workers.scheduler import Scheduler
from modelworker_server.workers.sequences import Delivery, Generation
from modelworker_server.workers.tokens import Tokens

_STEP_TOKENS: Final = {"cpu": 512, "cuda": 4096}
"""Tokens of prompts, and of other inputs, that are read between two decode steps: about a
second's work on two CPU cores."""


class ModelWorker(LocalWorker):
    """Requests of many callers decoded together; greedy output equals `generate`'s."""

    async def load(self, progress: Progress) -> None:
        """Fetch and load the model, then answer one warm request.

        `progress` is called on the event loop.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """
        loaded = await asyncio.to_thread(load_model, self._config, on_the_loop(progress))
        self._tokens = Tokens(loaded.tokenizer)
        self._engine = _engine(loaded, self._tokens, self._config.max_running)
        self._engine.start()
        progress(LoadState.WARMING, None)
        # Two tokens: one comes from reading a prompt, one from a decode step.
        warm = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
        try:
            await self._generate([0], warm)
        except Unavailable as error:
            raise load_failure(error.__cause__ or error) from error
        self._info = self._info_of(loaded)

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

    async def score_tokens(
        self, token_ids: Sequence[int], *, top: int, start: int = 1
    ) -> tuple[TokenLogprob, ...]:
        """The log-probability of each given token from position `start` (1 or more) on.

        They are natural logarithms of the model's own distribution after the tokens before,
        as `SamplingParams.logprobs` gives them of sampled tokens.

        Raises:
            BadRequest: no token, or a start that is outside of them.
            ContextTooLong: more tokens than the model takes.
        """
        limit = self.info.max_model_len
        if not 1 <= start <= len(token_ids):
            raise BadRequest(
                f"start must be from 1 to the number of tokens, {len(token_ids)}; got {start}"
            )
        if len(token_ids) > limit:
            raise ContextTooLong(
                f"this model's maximum context length is {limit} tokens, but {len(token_ids)} "
                "were given to be scored; shorten them"
            )
        if start == len(token_ids):
            return ()
        found = await self._result(
            lambda deliver: Scoring(token_ids, deliver, top=top, start=start)
        )
        return cast("tuple[TokenLogprob, ...]", found)

    async def embed(
        self, inputs: Sequence[Sequence[int]], *, pooling: str | None, normalize: bool
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
        vectors = await self._result(
            lambda deliver: Embedding(
                inputs, deliver, pooling=pooling or "mean", normalize=normalize
            )
        )
        assert isinstance(vectors, list)  # noqa: S101 - what an Embedding delivers
        return vectors

    async def _generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        samples = await self._result(
            lambda deliver: Generation(prompt_ids, params, deliver, streaming=False)
        )
        return cast("tuple[Sample, ...]", samples)

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


def _engine(loaded: Loaded, tokens: Tokens, max_running: int) -> Engine:
    runner = Runner(loaded.model, layers=loaded.layers, max_rows=max_running)
    scheduler = Scheduler(
        runner,
        max_running=max_running,
        step_tokens=_STEP_TOKENS[runner.device.type],
        eos_ids=loaded.eos_ids,
        decode=tokens.decode,
    )
    return Engine(scheduler, asyncio.get_running_loop().call_soon_threadsafe)
