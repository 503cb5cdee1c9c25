"""Inputs that are read and not continued: texts to embed, and given tokens to score."""

import math
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import torch

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import TokenLogprob
from modelworker_server.workers.cache import RowCache
from modelworker_server.workers.runner import NOT_A_NUMBER, Runner
from modelworker_server.workers.sampling import logprobs_of
from modelworker_server.workers.sequences import Call, Delivery

_LOGITS: Final = {"cpu": 2**25, "cuda": 2**28}
"""Logits of one forward pass: 64 MiB in bfloat16, for 220 positions where a vocabulary has
150,000 tokens; on a GPU 512 MiB, as its passes are not worth it with fewer positions."""
_ROWS: Final = 64
"""Rows of logits that are turned into float32 log-probabilities together."""


class Reading(ABC):
    """One input while it is read, in one forward pass or part by part."""

    def __init__(self, call: "InputCall", tokens: Sequence[int]) -> None:
        self.call = call
        self.tokens = tokens
        self.cache: RowCache | None = None
        """Of an input that is read part by part."""
        self.done = 0
        """Tokens that were read."""

    @abstractmethod
    def take(self, output: torch.Tensor) -> None:
        """What the model gave for the next tokens: see `InputCall.run`."""

    @abstractmethod
    def finish(self) -> None:
        """All tokens were read: tell the call the result."""


class InputCall(Call, ABC):
    """Inputs of one caller, and what was found for each so far."""

    def __init__(
        self, inputs: Sequence[Sequence[int]], deliver: Callable[[Delivery], None]
    ) -> None:
        super().__init__(deliver)
        self.pending = deque(enumerate(inputs))

    @abstractmethod
    def reading(self, index: int, tokens: Sequence[int]) -> Reading:
        """The input at that place, not read yet."""

    @property
    def first(self) -> int:
        """The first position of an input whose output is wanted."""
        return 0

    def outputs(self, runner: Runner) -> int:  # noqa: ARG002 - a subclass uses it
        """Positions whose outputs may be in memory together."""
        return sys.maxsize

    @abstractmethod
    def run(
        self, runner: Runner, parts: Sequence[Sequence[int]], begin: int, cache: RowCache | None
    ) -> list[torch.Tensor]:
        """The outputs of each part, a row for each of its tokens from `begin` on."""

    @abstractmethod
    def result(self) -> Delivery:
        """What to deliver once nothing is pending."""


class Embedding(InputCall):
    """Inputs to embed: one vector of each input's hidden states, their `mean` or the `last`."""

    def __init__(
        self,
        inputs: Sequence[Sequence[int]],
        deliver: Callable[[Delivery], None],
        *,
        pooling: str,
        normalize: bool,
    ) -> None:
        super().__init__(inputs, deliver)
        self.vectors: list[list[float]] = [[] for _ in inputs]
        self.pooling = pooling
        self.normalize = normalize

    def reading(self, index: int, tokens: Sequence[int]) -> Reading:
        """See `InputCall`."""
        return _Pooling(self, index, tokens)

    def run(
        self, runner: Runner, parts: Sequence[Sequence[int]], begin: int, cache: RowCache | None
    ) -> list[torch.Tensor]:
        """See `InputCall`."""
        return [states[begin:] for states in runner.hidden_states(parts, cache)]

    def result(self) -> Delivery:
        """See `InputCall`."""
        finite = all(math.isfinite(value) for vector in self.vectors for value in vector)
        return self.vectors if finite else Unavailable(NOT_A_NUMBER)


class _Pooling(Reading):
    def __init__(self, call: Embedding, index: int, tokens: Sequence[int]) -> None:
        super().__init__(call, tokens)
        self._embedding = call
        self._index = index
        self._vector: torch.Tensor | None = None

    def take(self, output: torch.Tensor) -> None:
        if self._embedding.pooling == "last":
            self._vector = output[-1]
        else:
            total = output.sum(dim=0)
            self._vector = total if self._vector is None else self._vector + total

    def finish(self) -> None:
        vector = self._vector
        assert vector is not None  # noqa: S101 - an input has a token
        if self._embedding.pooling == "mean":
            vector = vector / len(self.tokens)
        if self._embedding.normalize:
            vector = torch.nn.functional.normalize(vector, dim=0)
        self._embedding.vectors[self._index] = vector.tolist()


class Scoring(InputCall):
    """Given tokens, of which those from `start` on get their log-probabilities.

    Args:
        token_ids: more than `start` tokens.
        deliver: runs on the event loop.
        top: the likeliest tokens that are told beside each.
        start: 1 or more; the first token follows nothing.
    """

    def __init__(
        self,
        token_ids: Sequence[int],
        deliver: Callable[[Delivery], None],
        *,
        top: int,
        start: int,
    ) -> None:
        # Nothing is asked of what follows the last token.
        super().__init__([token_ids[:-1]], deliver)
        self.targets = token_ids[1:]
        self.top = top
        self.logprobs: tuple[TokenLogprob, ...] = ()
        self._first = start - 1

    def reading(self, index: int, tokens: Sequence[int]) -> Reading:  # noqa: ARG002 - it is one
        """See `InputCall`."""
        return _Comparing(self, tokens)

    @property
    def first(self) -> int:
        """See `InputCall`."""
        return self._first

    def outputs(self, runner: Runner) -> int:
        """See `InputCall`."""
        return max(1, _LOGITS[runner.device.type] // runner.vocabulary)

    def run(
        self, runner: Runner, parts: Sequence[Sequence[int]], begin: int, cache: RowCache | None
    ) -> list[torch.Tensor]:
        """See `InputCall`."""
        return runner.logits(parts, begin, cache)

    def result(self) -> Delivery:
        """See `InputCall`."""
        finite = not any(math.isnan(found.logprob) for found in self.logprobs)
        return self.logprobs if finite else Unavailable(NOT_A_NUMBER)


class _Comparing(Reading):
    def __init__(self, call: Scoring, tokens: Sequence[int]) -> None:
        super().__init__(call, tokens)
        self._scoring = call
        self._found = list[TokenLogprob]()

    def take(self, output: torch.Tensor) -> None:
        call = self._scoring
        wanted = self.done - call.first - len(self._found)
        if wanted <= 0:
            return
        output = output[-wanted:]
        targets = call.targets[self.done - wanted : self.done]
        ids = torch.tensor(targets, device=output.device)
        for begin in range(0, wanted, _ROWS):
            end = begin + _ROWS
            self._found += logprobs_of(output[begin:end], ids[begin:end], call.top)

    def finish(self) -> None:
        self._scoring.logprobs = tuple(self._found)
