"""The worker that runs a language model on vLLM."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp
from vllm import envs
from vllm.inputs import tokens_input
from vllm.pooling_params import PoolingParams
from vllm.utils import random_uuid
from vllm.utils.gc_utils import freeze_gc_heap

from modelworker_api.adapters import Adapter, AdapterReport
from modelworker_api.wire import LoadState
from modelworker_server.errors import (
    BadRequest,
    ContextTooLong,
    LoadError,
    NotReady,
    Unsupported,
)
from modelworker_server.workers.base import (
    ModelConfig,
    Progress,
    Sample,
    SamplingParams,
    TokenLogprob,
)
from modelworker_server.workers.vllm.adapters import Adapters
from modelworker_server.workers.vllm.api import application
from modelworker_server.workers.vllm.arguments import serving_flags
from modelworker_server.workers.vllm.engine import parse, start
from modelworker_server.workers.vllm.failures import as_worker_errors, start_failure
from modelworker_server.workers.vllm.running import EngineWorker
from modelworker_server.workers.vllm.sampling import (
    engine_params,
    logprobs_of,
    samples_of,
    scoring_params,
)

_WARM = (
    SamplingParams(max_tokens=2, temperature=0.0, logprobs=1, ignore_eos=True),
    SamplingParams(max_tokens=2, top_p=0.9, top_k=20, n=2, seed=0, ignore_eos=True),
)
"""One request for each way to sample: the first one that goes it compiles its kernels."""


class VLLMWorker(EngineWorker):
    """vLLM's own API in this process, and the same engine under this package's routes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._api: Any = None
        self._adapters: Adapters | None = None
        self._tasks: frozenset[str] = frozenset()
        self._logging: asyncio.Task[None] | None = None

    @property
    def api(self) -> ASGIApp | None:
        """The application of vLLM; None before the model is loaded."""
        api: ASGIApp | None = self._api
        return api

    async def load(self, progress: Progress) -> None:
        """Fetch and load the model, then answer one warm request.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """
        folder, revision = await self._find(progress)
        local = replace(self._config, source="local", model=str(folder), revision=None)
        arguments = await asyncio.to_thread(parse, serving_flags(local))
        engine = await asyncio.to_thread(start, arguments, self._stats)
        self._take(engine)
        self._tasks = frozenset(await engine.get_supported_tasks())
        progress(LoadState.WARMING, None)
        try:
            await self._serve(arguments)
        except LoadError:
            raise
        except Exception as error:
            raise start_failure(error, "") from error
        self._info = self._info_of(engine, revision)

    async def close(self) -> None:
        """Give back everything; calls still under way end with `Unavailable`."""
        if self._logging is not None:
            self._logging.cancel()
        await super().close()

    async def _serve(self, arguments: Namespace) -> None:
        """Build the API and run the first request, which compiles what vLLM left out."""
        engine = self._ready_engine()
        api = await application(engine, arguments, self._config.model)
        self._adapters = Adapters(api.state.openai_serving_models, engine, self._config)
        if "generate" in self._tasks:
            for warm in _WARM:
                await self._generate([0], warm)
        # What vLLM's server does when it starts, whose lifespan does not run here.
        if not arguments.disable_log_stats:
            self._logging = asyncio.create_task(self._log_stats())
        freeze_gc_heap()
        self._api = api

    async def _log_stats(self) -> None:
        while True:
            await asyncio.sleep(envs.VLLM_LOG_STATS_INTERVAL)
            await self._ready_engine().do_log_stats()

    # --- adapters --------------------------------------------------------------------

    async def want_adapters(self, wanted: Sequence[Adapter]) -> None:
        """Load and unload until these adapters are served; failures are told in `adapters`."""
        if self._adapters is None:
            raise NotReady("the model is not loaded yet; adapters come after it")
        if wanted and self._config.vllm.max_lora_rank is None:
            raise Unsupported("this worker was started without adapters; set spec.lora")
        await self._adapters.want(wanted)

    @property
    def adapters(self) -> tuple[AdapterReport, ...]:
        """Every adapter that was asked for, in that order, and how far it is."""
        return () if self._adapters is None else self._adapters.reports

    # --- work ------------------------------------------------------------------------

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        """`params.n` samples for one prompt, in index order, complete."""
        self._check_prompt(prompt_ids, params.max_tokens)
        return await self._generate(prompt_ids, params)

    def stream(self, prompt_ids: Sequence[int], params: SamplingParams) -> AsyncIterator[Sample]:
        """The same, part by part as it is decoded; a bad request is refused at once."""
        self._check_prompt(prompt_ids, params.max_tokens)
        return self._stream(prompt_ids, params)

    async def score_tokens(
        self, token_ids: Sequence[int], *, top: int, start: int = 1
    ) -> tuple[TokenLogprob, ...]:
        """The log-probability of each given token from position `start` (1 or more) on."""
        self._check_prompt(token_ids, 1)
        final = await self._final(token_ids, scoring_params(top))
        return logprobs_of(token_ids[start:], final.prompt_logprobs[start:], top)

    async def embed(
        self, inputs: Sequence[Sequence[int]], *, pooling: str | None, normalize: bool
    ) -> list[list[float]]:
        """One vector of hidden size for each input, pooled as the model is made for."""
        if "embed" not in self._tasks:
            raise Unsupported("this model gives no embeddings; serve an embedding model")
        own = self._ready_engine().model_config.pooler_config.get_seq_pooling_type().lower()
        if pooling not in (None, own):
            raise BadRequest(
                f"this model pools by {own!r}, not by {pooling!r}; leave it out or send {own!r}",
                param="pooling",
            )
        for ids in inputs:
            self._check_prompt(ids, 0)
        return list(await asyncio.gather(*(self._embed(ids, normalize) for ids in inputs)))

    async def _embed(self, ids: Sequence[int], normalize: bool) -> list[float]:
        params = PoolingParams(task="embed", use_activation=normalize)
        with as_worker_errors():
            async for output in self._ready_engine().encode(
                tokens_input(list(ids)), params, random_uuid()
            ):
                vector: list[float] = output.outputs.data.float().tolist()
        return vector

    async def _generate(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Sample, ...]:
        final = await self._final(prompt_ids, engine_params(params, streaming=False))
        return samples_of(final.outputs, params)

    async def _stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncIterator[Sample]:
        prompt = tokens_input(list(prompt_ids))
        with as_worker_errors():
            wanted = engine_params(params, streaming=True)
            parts = self._ready_engine().generate(prompt, wanted, random_uuid())
            async with aclosing(parts):
                async for part in parts:
                    for sample in samples_of(part.outputs, params):
                        yield sample

    async def _final(self, prompt_ids: Sequence[int], params: Any) -> Any:
        """The engine's one output for a request that wants only the end."""
        prompt = tokens_input(list(prompt_ids))
        with as_worker_errors():
            async for output in self._ready_engine().generate(prompt, params, random_uuid()):
                final = output
        return final

    def _check_prompt(self, prompt_ids: Sequence[int], max_tokens: int) -> None:
        limit = self.info.max_model_len
        if not prompt_ids:
            raise BadRequest("the prompt is empty; send at least one token", param="prompt")
        if (total := len(prompt_ids) + max_tokens) > limit:
            raise ContextTooLong(
                f"this model's maximum context length is {limit} tokens, but {total} were asked "
                f"for: {len(prompt_ids)} in the prompt and {max_tokens} to generate; "
                "shorten the prompt or lower max_tokens"
            )
