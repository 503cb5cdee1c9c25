"""What the workers have in common whose model runs in this process, in an engine thread."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from modelworker_api.wire import LoadState
from modelworker_server.workers.base import (
    Load,
    ModelConfig,
    ModelInfo,
    Progress,
)
from modelworker_server.workers.engine import Engine
from modelworker_server.workers.sequences import Call, Delivery
from modelworker_server.workers.tokenized import TokenizedWorker, not_ready


class LoadedFacts(Protocol):
    """What is to be told of a model that was loaded."""

    @property
    def revision(self) -> str:
        """Commit of the hub, or a fingerprint of the files."""

    @property
    def dtype(self) -> str:
        """Data type of the weights."""

    @property
    def max_model_len(self) -> int:
        """Longest input and answer together, in tokens."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""


class LocalWorker(TokenizedWorker):
    """A model of this process: its tokenizer, its engine, and what is told of it.

    A subclass sets `_tokens` and `_engine` while it loads, and `_info` when it is ready.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._engine: Engine | None = None

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

    # --- for subclasses --------------------------------------------------------------

    def _info_of(self, loaded: LoadedFacts) -> ModelInfo:
        return ModelInfo(
            name=self._config.name,
            aliases=self._config.aliases,
            root=self._config.model,
            revision=loaded.revision,
            dtype=loaded.dtype,
            max_model_len=loaded.max_model_len,
            created=self._config.created,
            vocab_size=loaded.vocab_size,
        )

    async def _result(self, call: Callable[[Callable[[Delivery], None]], Call]) -> Delivery:
        """What the engine delivers for a call, which is made from how it is delivered.

        Raises:
            Exception: what the engine delivered in place of a result.
        """
        future: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        made = call(_settle(future))
        self._ready_engine().submit(made)
        try:
            return await future
        finally:
            made.cancelled = True

    def _ready_engine(self) -> Engine:
        if self._engine is None:
            raise not_ready()
        return self._engine


def on_the_loop(progress: Progress) -> Callable[[LoadState, int | None], None]:
    """`progress` for another thread; called in the event loop that it is to run in."""
    loop = asyncio.get_running_loop()

    def report(state: LoadState, percent: int | None) -> None:
        loop.call_soon_threadsafe(progress, state, percent)

    return report


def _settle(future: "asyncio.Future[Delivery]") -> Callable[[Delivery], None]:
    def settle(delivery: Delivery) -> None:
        if future.done():
            return
        if isinstance(delivery, Exception):
            future.set_exception(delivery)
        else:
            future.set_result(delivery)

    return settle
