"""What the workers have in common whose engine is vLLM."""

import asyncio
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from vllm.v1.engine.async_llm import AsyncLLM

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import (
    Load,
    ModelConfig,
    ModelInfo,
    Progress,
)
from modelworker_server.workers.loading import find_files, load_failure
from modelworker_server.workers.local import on_the_loop
from modelworker_server.workers.tokenized import TokenizedWorker, not_ready
from modelworker_server.workers.tokens import Tokens
from modelworker_server.workers.vllm.engine import stop
from modelworker_server.workers.vllm.stats import EngineStats


class EngineWorker(TokenizedWorker):
    """An engine of vLLM: its tokenizer, its life, and what is told of it.

    A subclass calls `_take` with the engine while it loads, and sets `_info` when it is
    ready.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._stats = EngineStats()
        self._engine: AsyncLLM | None = None

    async def close(self) -> None:
        """Give back everything; calls still under way end with `Unavailable`."""
        if self._engine is not None:
            stop(self._engine)

    def alive(self) -> bool:
        """False when the engine has died and only a restart helps."""
        return self._engine is None or not self._engine.errored

    def load_now(self) -> Load:
        """How many requests are running and waiting inside the engine."""
        if self._engine is None:
            return Load()
        output = self._engine.output_processor
        if not output.parent_requests:
            return self._stats.load(len(output.request_states))
        # The samples of one request are requests of the engine's own.
        alone = sum(state.parent_req is None for state in output.request_states.values())
        return self._stats.load(alone + len(output.parent_requests))

    @property
    def counters(self) -> CollectorRegistry | None:
        """The registry that belongs to the process."""
        return REGISTRY

    # --- for subclasses --------------------------------------------------------------

    async def _find(self, progress: Progress) -> tuple[Path, str]:
        """The model's folder, downloaded if need be, and its revision.

        Raises:
            LoadError: with the reason and the next step.
        """
        if self._config.gguf_file is not None:
            raise LoadError(
                FailureReason.MODEL_UNSUPPORTED,
                "vLLM does not load GGUF files here: remove ggufFile and name a source with "
                "safetensors, or use backend Transformers",
            )
        report = on_the_loop(progress)
        try:
            return await asyncio.to_thread(find_files, self._config, report)
        except LoadError:
            raise
        except Exception as error:
            raise load_failure(error) from error

    def _take(self, engine: AsyncLLM) -> None:
        """Work on this engine from now on."""
        self._engine = engine
        self._tokens = Tokens(engine.get_tokenizer())

    def _info_of(self, engine: AsyncLLM, revision: str) -> ModelInfo:
        model = engine.model_config
        return ModelInfo(
            name=self._config.name,
            aliases=self._config.aliases,
            root=self._config.model,
            revision=revision,
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=model.max_model_len,
            created=self._config.created,
            vocab_size=model.get_vocab_size(),
        )

    def _ready_engine(self) -> AsyncLLM:
        if self._engine is None:
            raise not_ready()
        return self._engine
