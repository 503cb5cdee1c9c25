"""Forward passes: the one place that calls the model."""

import inspect
from collections.abc import Sequence
from typing import Any, Final

import torch

from modelworker_server.workers.cache import RowCache, padding_mask

NOT_A_NUMBER: Final = (
    "the model's output is not a number (its dtype overflows, or its weights are damaged); "
    "try dtype bfloat16 or float32"
)
"""What a caller is told when the model's output is NaN or infinite."""


class Runner:
    """A causal language model of transformers on one device."""

    def __init__(self, model: Any, *, layers: int, max_rows: int) -> None:
        self._model = model
        self._layers = layers
        self._max_rows = max_rows
        self.device: torch.device = model.device
        self.vocabulary: int = model.config.get_text_config().vocab_size
        """Logits of each position."""
        # Models whose positions come from the mask alone (ALiBi) take no position_ids.
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def new_cache(self) -> RowCache:
        """An empty cache that grows with the rows appended to it."""
        return RowCache(self._layers, max_rows=self._max_rows)

    def prompt_cache(self, lengths: Sequence[int]) -> RowCache:
        """A cache that has room for exactly these prompts."""
        rows = len(lengths)
        return RowCache(self._layers, max_rows=rows, rows=rows, columns=max(lengths))

    def prefill(self, prompts: Sequence[Sequence[int]], cache: RowCache) -> torch.Tensor:
        """Read prompts, or one prompt's next part; the logits after the last token of each.

        Several prompts are padded on the left and must be whole.
        """
        columns = max(map(len, prompts))
        padding = [columns - len(prompt) for prompt in prompts]
        ids = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        begin = cache.width
        positions = torch.arange(begin, begin + columns, device=self.device)[None, :]
        positions = (positions - self._tensor(padding)[:, None]).clamp(min=0)
        logits = self._forward(
            self._tensor(ids), padding_mask(padding, begin + columns, self.device), positions, cache
        )
        cache.extend(columns)
        cache.lengths = [length - pad for length, pad in zip(cache.lengths, padding, strict=True)]
        return logits

    def decode(self, token_ids: Sequence[int], cache: RowCache) -> torch.Tensor:
        """One token more in every row; the logits after it."""
        cache.reserve(1)
        mask = padding_mask(cache.padding, cache.width + 1, self.device)
        logits = self._forward(
            self._tensor(token_ids)[:, None], mask, self._tensor(cache.lengths)[:, None], cache
        )
        cache.extend(1)
        return logits

    def hidden_states(
        self, inputs: Sequence[Sequence[int]], cache: RowCache | None = None
    ) -> list[torch.Tensor]:
        """The last hidden states, after the final norm, of each input's tokens.

        With a cache of one row there is one input, the next part of that row.
        """
        output = self._read(self._model.base_model, inputs, cache)
        return [
            states[: len(tokens)].float()
            for states, tokens in zip(output.last_hidden_state, inputs, strict=True)
        ]

    def logits(
        self, inputs: Sequence[Sequence[int]], begin: int, cache: RowCache | None = None
    ) -> list[torch.Tensor]:
        """The logits, in the model's own type, after each input's tokens from `begin` on.

        See `hidden_states`. `begin` is below the length of the longest input.
        """
        keep = max(map(len, inputs)) - begin
        output = self._read(self._model, inputs, cache, logits_to_keep=keep)
        return [
            logits[: max(0, len(tokens) - begin)]
            for logits, tokens in zip(output.logits, inputs, strict=True)
        ]

    def free(self) -> None:
        """Give cached device memory back after an out-of-memory error."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _read(
        self, model: Any, inputs: Sequence[Sequence[int]], cache: RowCache | None, **extra: Any
    ) -> Any:
        """The output for inputs that are padded on the right.

        Causal attention never looks there, so no mask is needed.
        """
        columns = max(map(len, inputs))
        ids = [list(tokens) + [0] * (columns - len(tokens)) for tokens in inputs]
        if cache is None:
            return model(input_ids=self._tensor(ids), use_cache=False, **extra)
        if self._takes_positions:
            begin = cache.width
            positions = torch.arange(begin, begin + columns, device=self.device)
            extra["position_ids"] = positions[None, :]
        output = model(input_ids=self._tensor(ids), past_key_values=cache, use_cache=True, **extra)
        cache.extend(columns)
        return output

    def _forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        positions: torch.Tensor,
        cache: RowCache,
    ) -> torch.Tensor:
        extra = {"position_ids": positions} if self._takes_positions else {}
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _tensor(self, values: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def one_line(error: BaseException) -> str:
    """The type and the first line of an error."""
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
