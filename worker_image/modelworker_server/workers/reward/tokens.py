"""The tokenizer that reward models are laid out with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from modelworker_server.errors import BadRequest, LoadError
from modelworker_server.scoring.values import Turn
from modelworker_server.workers.base import Message, ModelConfig
from modelworker_server.workers.loading import read_tokenizer, unsupported
from modelworker_server.workers.runner import one_line
from modelworker_server.workers.tokens import Tokens


def load_tokenizer(config: ModelConfig, folder: Path) -> Any:
    """The tokenizer of a folder, by its tokenizer.json where it has one.

    transformers builds some tokenizers anew from the name of their class, and leading spaces
    then become other tokens than those the model was trained on.

    Raises:
        LoadError: the tokenizer needs code of its own, or tells no positions in the text.
    """
    if config.gguf_file is None and (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    try:
        tokenizer = read_tokenizer(config, folder)
    except ValueError as error:
        raise _no_tokenizer(one_line(error)) from error
    if not tokenizer.is_fast:
        raise _no_tokenizer("its tokenizer does not say where in the text a token is")
    return tokenizer


class RewardTokens:
    """A tokenizer of transformers, as `scoring.values.Tokenizer`. Threads may share it."""

    def __init__(self, tokenizer: Any, tokens: Tokens) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        # The wrapper sets truncation and padding anew in each call, which threads cannot share.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        plain, whole = self.encode("a"), tokens.encode("a")
        self._bos_id = (
            whole[0] if len(whole) > len(plain) and whole[-len(plain) :] == plain else None
        )

    @property
    def bos_id(self) -> int | None:
        """The id that begins an input; None where the tokenizer adds none to a plain text."""
        return self._bos_id

    def encode(self, text: str) -> list[int]:
        """Token ids of the text alone, no BOS added."""
        ids: list[int] = self._encoding(text).ids
        return ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The same, and the range of characters that each token covers."""
        encoding = self._encoding(text)
        return encoding.ids, encoding.offsets

    def id_of(self, token: str) -> int | None:
        """Id of a vocabulary entry by its exact name, special tokens included."""
        found: int | None = self._backend.token_to_id(token)
        return found

    def special_id(self, name: str) -> int | None:
        """Id of `bos`, `eos`, `pad` or `unk` as the tokenizer's settings name them."""
        found: int | None = getattr(self._tokenizer, f"{name}_token_id")
        return found

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
        """The conversation by the model's chat template, BOS included where it writes one.

        Raises:
            BadRequest: there is no template, or it refuses the conversation.
        """
        if self._tokens.template() is None:
            raise BadRequest(
                "this model has no chat template, which its recipe writes inputs with; add one "
                "to the checkpoint's tokenizer"
            )
        messages = [Message(role=role, content=content) for role, content in turns]
        return self._tokens.render(messages, add_generation_prompt=add_generation_prompt)

    def _encoding(self, text: str) -> Any:
        try:
            return self._backend.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeError) as error:
            raise BadRequest(
                "the text is not valid Unicode (a lone surrogate, such as \\ud800); "
                "send well-formed text"
            ) from error


def _no_tokenizer(why: str) -> LoadError:
    return unsupported(f"{why}; save a tokenizer.json beside its weights, as fast tokenizers do")
