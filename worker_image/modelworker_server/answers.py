"""From a worker's samples to wire answers, whole or in chunks. Only set fields are sent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from modelworker_api import tokens, wire
from modelworker_server.translate import Job
from modelworker_server.workers.base import ModelInfo, Sample, TokenLogprob

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


@dataclass(slots=True)
class CompletionAnswers:
    """The answer to `/v1/completions`. Choices are prompt-major."""

    job: Job
    envelope: Envelope
    token_text: TokenText
    _offsets: dict[int, int] = field(default_factory=dict)
    """By choice: characters of its tokens that were sent; a choice in it has been begun."""

    def whole(self, samples: Sequence[Sequence[Sample]]) -> wire.CompletionResponse:
        """See `Answers`."""
        return self._response(
            [
                self._choice(prompt, sample)
                for prompt, group in enumerate(samples)
                for sample in group
            ],
            usage(self.job.prompt_tokens, token_count(samples)),
        )

    def chunk(self, prompt: int, part: Sample) -> wire.CompletionResponse | None:
        """See `Answers`."""
        if not _tells(part, self.job):
            return None
        return self._response([self._choice(prompt, part)], None)

    def end(self, completion_tokens: int) -> wire.CompletionResponse:
        """See `Answers`."""
        return self._response([], usage(self.job.prompt_tokens, completion_tokens))

    def _response(
        self, choices: list[wire.CompletionChoice], counts: wire.Usage | None
    ) -> wire.CompletionResponse:
        return wire.CompletionResponse(
            id=self.envelope.id,
            object="text_completion",
            created=self.envelope.created,
            model=self.envelope.model,
            choices=choices,
            usage=counts,
        )

    def _choice(self, prompt: int, sample: Sample) -> wire.CompletionChoice:
        index = prompt * self.job.params.n + sample.index
        first = index not in self._offsets
        echoed = self.job.echo[prompt] if self.job.echo and first else ""
        choice = wire.CompletionChoice(
            index=index,
            text=echoed + sample.text,
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=self._logprobs(index, sample.logprobs),
        )
        if self.job.return_token_ids:
            choice.token_ids = list(sample.token_ids)
            if first:
                choice.prompt_token_ids = list(self.job.prompts[prompt])
        return choice

    def _logprobs(
        self, index: int, logprobs: Sequence[TokenLogprob] | None
    ) -> wire.CompletionLogprobs | None:
        offset = self._offsets.setdefault(index, 0)
        if logprobs is None:
            return None
        name = token_namer(self.job, self.token_text)
        offsets = []
        for token in logprobs:
            offsets.append(offset)
            offset += len(self.token_text(token.token_id))
        self._offsets[index] = offset
        return wire.CompletionLogprobs(
            tokens=[name(token.token_id) for token in logprobs],
            token_logprobs=[finite(token.logprob) for token in logprobs],
            top_logprobs=[
                {
                    name(i): finite(value)
                    for i, value in ((token.token_id, token.logprob), *token.top)
                }
                for token in logprobs
            ],
            text_offset=offsets,
        )


@dataclass(slots=True)
class ChatAnswers:
    """The answer to `/v1/chat/completions`."""

    job: Job
    envelope: Envelope
    token_text: TokenText
    _begun: set[int] = field(default_factory=set)

    def whole(self, samples: Sequence[Sequence[Sample]]) -> wire.ChatCompletionResponse:
        """See `Answers`."""
        choices = []
        for sample in samples[0]:
            choice = self._choice(sample)
            choice.message = wire.ChatAnswer(role="assistant", content=sample.text)
            choices.append(choice)
        response = self._response("chat.completion", choices)
        response.usage = usage(self.job.prompt_tokens, token_count(samples))
        if self.job.return_token_ids:
            response.prompt_token_ids = list(self.job.prompts[0])
        return response

    def chunk(self, prompt: int, part: Sample) -> wire.ChatCompletionResponse | None:
        """See `Answers`. The first chunk of a choice carries the role."""
        first = part.index not in self._begun
        if not first and not _tells(part, self.job):
            return None
        choice = self._choice(part)
        choice.delta = wire.ChatAnswer(content=part.text)
        if first:
            choice.delta.role = "assistant"
        response = self._response("chat.completion.chunk", [choice])
        if self.job.return_token_ids and not self._begun:
            response.prompt_token_ids = list(self.job.prompts[prompt])
        self._begun.add(part.index)
        return response

    def end(self, completion_tokens: int) -> wire.ChatCompletionResponse:
        """See `Answers`."""
        response = self._response("chat.completion.chunk", [])
        response.usage = usage(self.job.prompt_tokens, completion_tokens)
        return response

    def _response(
        self, kind: wire.ChatObject, choices: list[wire.ChatChoice]
    ) -> wire.ChatCompletionResponse:
        return wire.ChatCompletionResponse(
            id=self.envelope.id,
            object=kind,
            created=self.envelope.created,
            model=self.envelope.model,
            choices=choices,
        )

    def _choice(self, sample: Sample) -> wire.ChatChoice:
        choice = wire.ChatChoice(
            index=sample.index,
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=self._logprobs(sample.logprobs),
        )
        if self.job.return_token_ids:
            choice.token_ids = list(sample.token_ids)
        return choice

    def _logprobs(self, logprobs: Sequence[TokenLogprob] | None) -> wire.ChatLogprobs | None:
        if logprobs is None:
            return None
        return wire.ChatLogprobs(
            content=[
                self._token(
                    token.token_id,
                    token.logprob,
                    [self._token(i, value, []) for i, value in token.top],
                )
                for token in logprobs
            ]
        )

    def _token(
        self, token_id: int, logprob: float, top: list[wire.ChatTokenLogprob]
    ) -> wire.ChatTokenLogprob:
        return wire.ChatTokenLogprob(
            token=token_namer(self.job, self.token_text)(token_id),
            logprob=finite(logprob),
            bytes=list(self.token_text(token_id).encode()),
            top_logprobs=top,
        )


def token_namer(job: Job, token_text: TokenText) -> TokenText:
    """How log-probabilities name a token: by its text, or as `token_id:7`."""
    return (lambda token_id: f"token_id:{token_id}") if job.tokens_as_ids else token_text


def finite(logprob: float) -> float:
    """A log-probability as JSON can carry it."""
    return logprob if math.isfinite(logprob) else NO_LOGPROB


def _tells(part: Sample, job: Job) -> bool:
    """Whether a client learns anything from a part of a sample."""
    wants_tokens = job.return_token_ids or job.params.logprobs is not None
    return bool(part.text or part.finish_reason or (wants_tokens and part.token_ids))


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
