"""From a worker's samples to the answer to `/inference/v1/generate`, whole or in events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modelworker_api import inference
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
class TokensAnswers:
    """The answer to `/inference/v1/generate`."""

    job: Job
    envelope: Envelope
    token_text: TokenText
    _begun: bool = False
    _prompt: PromptLogprobs | None = None

    def prompts_scored(self, scores: Sequence[Sequence[TokenLogprob]]) -> None:
        """See `Answers`."""
        if self.job.prompt_logprobs is not None:
            self._prompt = prompt_logprobs(
                self.job.prompts[0], scores[0], self.job.prompt_logprobs, self.token_text
            )

    def whole(self, samples: Sequence[Sequence[Sample]]) -> inference.TokensResponse:
        """See `Answers`."""
        response = self._response([self._choice(sample) for sample in samples[0]])
        response.usage = usage(self.job.prompt_tokens, token_count(samples))
        response.prompt_logprobs = self._prompt
        if self.job.return_token_ids:
            response.prompt_token_ids = list(self.job.prompts[0])
        return response

    def chunk(self, prompt: int, part: Sample) -> inference.TokensResponse | None:
        """See `Answers`. The first event has the prompt's token ids, where they are wanted."""
        if not (part.token_ids or tells(part, self.job)):
            return None
        response = self._response([self._choice(part)])
        if self.job.return_token_ids and not self._begun:
            response.prompt_token_ids = list(self.job.prompts[prompt])
        self._begun = True
        return response

    def end(self, completion_tokens: int) -> inference.TokensResponse:
        """See `Answers`."""
        response = self._response([])
        response.usage = usage(self.job.prompt_tokens, completion_tokens)
        return response

    @property
    def _mode(self) -> Literal["tokens", "text"]:
        return "tokens" if self.job.tokens_as_ids else "text"

    def _response(self, choices: list[inference.TokensChoice]) -> inference.TokensResponse:
        return inference.TokensResponse(
            request_id=self.envelope.id,
            created=self.envelope.created,
            model=self.envelope.model,
            output_mode=self._mode,
            choices=choices,
        )

    def _choice(self, sample: Sample) -> inference.TokensChoice:
        choice = inference.TokensChoice(
            index=sample.index,
            token_ids=list(sample.token_ids),
            logprobs=self._logprobs(sample.logprobs),
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
        )
        if self._mode == "text":
            choice.text = sample.text
        return choice

    def _logprobs(self, logprobs: Sequence[TokenLogprob] | None) -> inference.TokensLogprobs | None:
        if logprobs is None:
            return None
        content = []
        for found in logprobs:
            entry = self._entry(found.token_id, found.logprob, found.rank)
            entry.top_logprobs = [
                self._entry(token_id, logprob, rank)
                for rank, (token_id, logprob) in enumerate(found.top, start=1)
            ]
            content.append(entry)
        return inference.TokensLogprobs(content=content)

    def _entry(self, token_id: int, logprob: float, rank: int | None) -> inference.TokenChance:
        entry = inference.TokenChance(
            token_id=token_id,
            token=token_namer(self.job, self.token_text)(token_id),
            logprob=finite(logprob),
            rank=rank,
        )
        if self._mode == "text":
            entry.bytes = list(entry.token.encode())
        return entry
