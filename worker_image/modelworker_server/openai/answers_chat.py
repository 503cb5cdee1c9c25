"""From a worker's samples to the answer to `/v1/chat/completions`, whole or in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelworker_api import wire
from modelworker_api.logprobs import PromptLogprobs
from modelworker_server.openai.answers import (
    Envelope,
    TokenText,
    finite,
    tells,
    token_count,
    token_namer,
    usage,
)
from modelworker_server.openai.answers_prompts import prompt_logprobs
from modelworker_server.openai.translate import Job
from modelworker_server.workers.base import Sample, TokenLogprob


@dataclass(slots=True)
class ChatAnswers:
    """The answer to `/v1/chat/completions`."""

    job: Job
    envelope: Envelope
    token_text: TokenText
    _begun: set[int] = field(default_factory=set)
    _prompt: PromptLogprobs | None = None

    def prompts_scored(self, scores: Sequence[Sequence[TokenLogprob]]) -> None:
        """See `Answers`."""
        if self.job.prompt_logprobs is not None:
            self._prompt = prompt_logprobs(
                self.job.prompts[0], scores[0], self.job.prompt_logprobs, self.token_text
            )

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
        if self._prompt is not None:
            response.prompt_logprobs = self._prompt
        return response

    def chunk(self, prompt: int, part: Sample) -> wire.ChatCompletionResponse | None:
        """See `Answers`. The first chunk of a choice carries the role."""
        first = part.index not in self._begun
        if not first and not tells(part, self.job):
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
