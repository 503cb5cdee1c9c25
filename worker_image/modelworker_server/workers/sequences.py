"""One request inside the engine, and the sequences that are decoded for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from modelworker_server.errors import WorkerError
from modelworker_server.scoring.values import Scores
from modelworker_server.workers.base import Sample, SamplingParams, TokenLogprob
from modelworker_server.workers.sampling import Choice, Chooser
from modelworker_server.workers.text import Decode, Detokenizer, SampleText

Result: TypeAlias = Scores | WorkerError
"""What became of one input to score."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of each input of one call, in order."""

    results: tuple[Result, ...]


Delivery: TypeAlias = (
    Sample
    | tuple[Sample, ...]
    | tuple[TokenLogprob, ...]
    | list[list[float]]
    | Scored
    | Exception
    | None
)
"""Parts of a stream and None at its end, or one complete result, or why there is none."""


class Call:
    """What a caller waits for. `cancelled` is set by the caller and read by the engine."""

    def __init__(self, deliver: Callable[[Delivery], None]) -> None:
        self.deliver = deliver
        """Runs on the event loop."""
        self.cancelled = False
        self.finished = False


Event: TypeAlias = tuple[Call, Delivery]
"""A call, and what its caller is to get."""


class Generation(Call):
    """A prompt and how to continue it."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        deliver: Callable[[Delivery], None],
        *,
        streaming: bool,
    ) -> None:
        super().__init__(deliver)
        self.prompt_ids = list(prompt_ids)
        self.params = params
        self.streaming = streaming
        self.sequences: list[Continuation] = []

    def start(self, decode: Decode, eos_ids: frozenset[int]) -> None:
        """Set up the sequences; `decode` knows what to do with special tokens."""
        self.sequences = [Continuation(self, i, decode, eos_ids) for i in range(self.params.n)]

    def done(self) -> bool:
        """Whether every sample has ended."""
        return all(sequence.finish_reason for sequence in self.sequences)

    def result(self) -> tuple[Sample, ...] | None:
        """What to deliver at the end; a stream has had it all."""
        return None if self.streaming else tuple(s.take() for s in self.sequences)


class Continuation:
    """One of the `n` samples of a request."""

    def __init__(
        self, request: Generation, index: int, decode: Decode, eos_ids: frozenset[int]
    ) -> None:
        params = request.params
        self.request = request
        self.index = index
        self.token_ids: list[int] = []
        self.chooser = Chooser(params, index, request.prompt_ids)
        self.finish_reason: str | None = None
        self.stop_reason: str | int | None = None
        self._logprobs: list[TokenLogprob] = []
        self._text = SampleText(
            Detokenizer(decode, request.prompt_ids),
            params.stop,
            include_stop=params.include_stop_str_in_output,
        )
        self._eos_ids = frozenset() if params.ignore_eos else eos_ids
        self._taken = 0

    def push(self, choice: Choice) -> None:
        """Add a token; afterwards `finish_reason` says whether it was the last one."""
        params, token_id = self.request.params, choice.token_id
        self.token_ids.append(token_id)
        self.chooser.saw(token_id)
        if choice.logprob is not None:
            self._logprobs.append(choice.logprob)
        if token_id in self._eos_ids or token_id in params.stop_token_ids:
            if params.include_stop_str_in_output:
                self._text.push(token_id)
            self._text.finish()
            self.finish_reason = "stop"
            self.stop_reason = None if token_id in self._eos_ids else token_id
        elif (stop := self._text.push(token_id)) is not None:
            self.finish_reason, self.stop_reason = "stop", stop
        elif len(self.token_ids) >= params.max_tokens:
            self._text.finish()
            self.finish_reason = "length"

    def news(self) -> bool:
        """Whether there is text to show, or the end; tokens wait for the text they make."""
        return self.finish_reason is not None or self._text.waiting()

    def take(self) -> Sample:
        """What is new since the last call."""
        text = self._text.take()
        begin, self._taken = self._taken, len(self.token_ids)
        return Sample(
            index=self.index,
            text=text,
            token_ids=tuple(self.token_ids[begin:]),
            logprobs=None
            if self.request.params.logprobs is None
            else tuple(self._logprobs[begin:]),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )
