"""What the workers have in common whose model runs in this process, in an engine thread."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from modelworker_api.wire import LoadState
from modelworker_server.errors import NotReady
from modelworker_server.workers.base import (
    BaseModelWorker,
    Load,
    Message,
    ModelConfig,
    ModelInfo,
    Progress,
)
from modelworker_server.workers.engine import Engine
from modelworker_server.workers.sequences import Call, Delivery
from modelworker_server.workers.tokens import Tokens


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


class LocalWorker(BaseModelWorker):
    """A model of this process: its tokenizer, its engine, and what is told of it.

    A subclass sets `_tokens` and `_engine` while it loads, and `_info` when it is ready.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._info: ModelInfo | None = None
        self._tokens: Tokens | None = None
        self._engine: Engine | None = None

    @property
    def info(self) -> ModelInfo:
        """What was loaded. Raises `NotReady` before `load` is done."""
        if self._info is None:
            raise not_ready()
        return self._info

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

    def tokenizer_info(self) -> Mapping[str, Any]:
        """The tokenizer's configuration, as its `tokenizer_config.json` has it."""
        return self._ready_tokens().configuration()

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

    def _ready_tokens(self) -> Tokens:
        if self._tokens is None:
            raise not_ready()
        return self._tokens


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


def not_ready() -> NotReady:
    """The error of a call that comes before the model."""
    return NotReady("the model is not loaded yet; /readyz says when it is")
