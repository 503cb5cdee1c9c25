"""Beam: one node of a search tree in token space. Pure values."""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from modelworker import _prompts
from modelworker._affinity import key_of
from modelworker._errors import InvalidRequest, WorkerFailed
from modelworker._requests import Message, Prompt
from modelworker._results import Generation, Sample


@dataclass(frozen=True, slots=True)
class Beam:
    """A prompt and the steps that were generated after it; make the first with `start`.

    `token_ids` holds the generated tokens: the next step goes on from exactly these, nothing
    is tokenised twice. `logprobs` are theirs. `text` is what they say, `steps` the same in
    parts; a stop string inside a token may leave a token that says more than `text`.
    `prompt_token_ids` is None until `LM.step` has asked a worker for them. `scores` are what
    `scored` was given. `session` keeps a tree on the worker that has its beginning in the
    cache. A beam is `done` when its last step ended otherwise than by the separator: by the
    model (`finish_reason` `"stop"`) or at `max_tokens` (`"length"`).
    """

    prompt: Prompt | tuple[Message, ...]
    session: str
    prompt_token_ids: tuple[int, ...] | None = field(default=None, repr=False)
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[float, ...] = field(default=(), repr=False)
    text: str = ""
    steps: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    finish_reason: str | None = None
    done: bool = False

    @classmethod
    def start(cls, prompt: Prompt | Sequence[Message], *, session: str | None = None) -> Self:
        """The root of a tree.

        Args:
            prompt: text, token ids, or a conversation, which the model's chat template renders.
            session: name of the tree, which keeps it on one worker; by default a new one.

        Raises:
            InvalidRequest: if the prompt is empty or of another type.
        """
        named = uuid.uuid4().hex if session is None else session
        key_of(named, None, "")
        if isinstance(prompt, str):
            return cls(prompt=_prompts.checked_prompt(prompt), session=named)
        if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
            return cls(prompt=tuple(_prompts.checked_conversation(prompt)), session=named)
        ids = tuple(token for token in _prompts.checked_prompt(prompt) if isinstance(token, int))
        return cls(prompt=ids, session=named, prompt_token_ids=ids)

    def scored(self, score: float) -> Self:
        """The same beam with the score of its last step behind the others."""
        return replace(self, scores=(*self.scores, float(score)))

    @property
    def cumulative_logprob(self) -> float:
        """Sum of the log-probabilities of all generated tokens; 0 at the root."""
        return math.fsum(self.logprobs)

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of a generated token; None at the root."""
        return math.fsum(self.logprobs) / len(self.logprobs) if self.logprobs else None


def checked(beams: object) -> list[Beam]:
    """The beams of a list, which can all go on.

    Raises:
        InvalidRequest: if it is no list of beams, or one of them is done.
    """
    if isinstance(beams, str | Beam) or not isinstance(beams, Sequence):
        raise InvalidRequest(f"beams must be a list of Beam, not a {type(beams).__name__}")
    for index, beam in enumerate(beams):
        if not isinstance(beam, Beam):
            raise InvalidRequest(
                f"beam {index} is a {type(beam).__name__}; begin with Beam.start(prompt)"
            )
        if beam.done:
            raise InvalidRequest(
                f"beam {index} is done ({beam.finish_reason}): leave it out, as in "
                "[beam for beam in beams if not beam.done]"
            )
    return list(beams)


def prompt_of(beam: Beam) -> list[int]:
    """The token ids that the next step goes on from; the prompt's have to be known."""
    assert beam.prompt_token_ids is not None  # noqa: S101 - `LM.step` asks for them first
    return [*beam.prompt_token_ids, *beam.token_ids]


def children(beam: Beam, generation: Generation, stops: Sequence[str]) -> list[Beam]:
    """A beam for each sample, equal ones among them, in index order.

    Raises:
        WorkerFailed: if the worker gave no token ids or no log-probabilities.
    """
    return [_child(beam, sample, stops, generation.worker) for sample in generation.samples]


def _child(beam: Beam, sample: Sample, stops: Sequence[str], worker: str) -> Beam:
    if sample.token_ids is None or sample.logprobs is None:
        raise WorkerFailed(
            f"worker {worker} gave no token ids, or no log-probabilities, for a step; "
            "a search in token space needs a ModelWorker's worker"
        )
    separated = sample.finish_reason == "stop" and sample.stop_reason in stops
    changes: dict[str, Any] = {"steps": (*beam.steps, sample.text)} if sample.text else {}
    return replace(
        beam,
        token_ids=(*beam.token_ids, *sample.token_ids),
        logprobs=(*beam.logprobs, *sample.logprobs),
        text=beam.text + sample.text,
        finish_reason=sample.finish_reason,
        done=not separated,
        **changes,
    )
