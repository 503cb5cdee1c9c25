"""What the answers to all generation requests have in common. Only set fields are sent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from modelworker_api import inference, tokens, wire
from modelworker_server.openai.translate import Job
from modelworker_server.workers.base import (
    BaseModelWorker,
    ModelInfo,
    Sample,
    TokenLogprob,
)

NO_LOGPROB: Final = -9999.0
"""What OpenAI and vLLM send for minus infinity, which JSON does not have."""

TokenText = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every part of one answer has in common."""

    id: str
    created: int
    """Seconds since the epoch."""
    model: str


class Answers(Protocol):
    """How the answer to one request looks."""

    def prompts_scored(self, scores: Sequence[Sequence[TokenLogprob]]) -> None:
        """Take in what the prompts' tokens got, from the second one on; before anything else."""

    def whole(self, samples: Sequence[Sequence[Sample]]) -> wire.Wire:
        """The answer, from the samples of each prompt."""

    def chunk(self, prompt: int, part: Sample) -> wire.Wire | None:
        """The chunk for a new part of a sample, None where there is nothing to tell."""

    def end(self, completion_tokens: int) -> wire.Wire:
        """The last chunk: token counts, no choice."""


def usage(prompt_tokens: int, completion_tokens: int) -> wire.Usage:
    """Token counts of one response."""
    return wire.Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


def token_count(samples: Sequence[Sequence[Sample]]) -> int:
    """Tokens that were generated."""
    return sum(len(sample.token_ids) for group in samples for sample in group)


def token_namer(job: Job, token_text: TokenText) -> TokenText:
    """How log-probabilities name a token: by its text, or as `token_id:7`."""
    return (lambda token_id: f"token_id:{token_id}") if job.tokens_as_ids else token_text


def finite(logprob: float) -> float:
    """A log-probability as JSON can carry it."""
    return logprob if math.isfinite(logprob) else NO_LOGPROB


def tells(part: Sample, job: Job) -> bool:
    """Whether a client learns anything from a part of a sample."""
    wants_tokens = job.return_token_ids or job.params.logprobs is not None
    return bool(part.text or part.finish_reason or (wants_tokens and part.token_ids))


def tokenizer_info(worker: BaseModelWorker) -> inference.TokenizerInfo:
    """The configuration of a worker's tokenizer, and its chat template."""
    return inference.TokenizerInfo.model_validate(
        {**worker.tokenizer_info(), "chat_template": worker.conversation_template()}
    )


def model_list(info: ModelInfo) -> tokens.ModelList:
    """One card for each name of the model, the one that answers carry first."""
    return tokens.ModelList(
        object="list",
        data=[
            tokens.ModelCard(
                id=name,
                object="model",
                created=info.created,
                owned_by="modelworker",
                root=info.root,
                max_model_len=info.max_model_len,
            )
            for name in (info.name, *sorted(info.aliases))
        ],
    )
