"""What every worker with a tokenizer has in common: texts to token ids, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelworker_server.errors import NotReady
from modelworker_server.workers.base import BaseModelWorker, Message, ModelConfig, ModelInfo
from modelworker_server.workers.tokens import Tokens


class TokenizedWorker(BaseModelWorker):
    """A worker's tokenizer and facts; a subclass sets `_tokens` and `_info` while it loads."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._info: ModelInfo | None = None
        self._tokens: Tokens | None = None

    @property
    def info(self) -> ModelInfo:
        """What was loaded. Raises `NotReady` before `load` is done."""
        if self._info is None:
            raise not_ready()
        return self._info

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

    def _ready_tokens(self) -> Tokens:
        if self._tokens is None:
            raise not_ready()
        return self._tokens


def not_ready() -> NotReady:
    """The error of a call that comes before the model."""
    return NotReady("the model is not loaded yet; /readyz says when it is")
