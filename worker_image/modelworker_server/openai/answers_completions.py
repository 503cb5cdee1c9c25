"""From a worker's samples to the answer to `/v1/completions`, whole or in chunks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
from modelworker_server.openai.answers_prompts import prompt_logprobs, prompt_offsets
from modelworker_server.openai.translate import Job
from modelworker_server.workers.base import Sample, TokenLogprob


@dataclass(slots=True)
class CompletionAnswers:
    """The answer to `/v1/completions`. Choices are prompt-major."""

    job: Job
    envelope: Envelope
    token_text: TokenText
    decode: Callable[[Sequence[int]], str]
    _offsets: dict[int, int] = field(default_factory=dict)
    """By choice: characters of its tokens that were sent; a choice in it has been begun."""
    _echoes: list[wire.CompletionLogprobs] = field(default_factory=list)
    """Of each prompt, where it is echoed with log-probabilities."""
    _prompts: list[PromptLogprobs] = field(default_factory=list)
    """Of each prompt, where they are listed by themselves."""

    def prompts_scored(self, scores: Sequence[Sequence[TokenLogprob]]) -> None:
        """See `Answers`."""
        job, top = self.job, self.job.params.logprobs
        if job.echo is not None and top is not None:
            self._echoes = [
                self._echoed(text, ids, [_limited(score, top) for score in found])
                for text, ids, found in zip(job.echo, job.prompts, scores, strict=True)
            ]
        if (listed := job.prompt_logprobs) is not None:
            self._prompts = [
                prompt_logprobs(ids, found, listed, self.token_text)
                for ids, found in zip(job.prompts, scores, strict=True)
            ]

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
        if not tells(part, self.job):
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
        job = self.job
        index = prompt * job.params.n + sample.index
        first = index not in self._offsets
        echo = job.echo[prompt] if job.echo and first else ""
        if first:
            self._offsets[index] = len(echo)
        choice = wire.CompletionChoice(
            index=index,
            text=echo + sample.text,
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=self._logprobs(index, prompt if first else None, sample.logprobs),
        )
        if job.return_token_ids:
            choice.token_ids = list(sample.token_ids)
            if first:
                choice.prompt_token_ids = list(job.prompts[prompt])
        if self._prompts:
            choice.prompt_logprobs = self._prompts[prompt]
        return choice

    def _logprobs(
        self, index: int, prompt: int | None, logprobs: Sequence[TokenLogprob] | None
    ) -> wire.CompletionLogprobs | None:
        """Of the new tokens of a choice, behind those of its prompt where that is given."""
        if logprobs is None:
            return None
        offset = self._offsets[index]
        offsets = []
        for token in logprobs:
            offsets.append(offset)
            offset += len(self.token_text(token.token_id))
        self._offsets[index] = offset
        generated = self._shape([(token.token_id, token) for token in logprobs], offsets)
        if prompt is None or not self._echoes:
            return generated
        echoed = self._echoes[prompt]
        return wire.CompletionLogprobs(
            tokens=echoed.tokens + generated.tokens,
            token_logprobs=echoed.token_logprobs + generated.token_logprobs,
            top_logprobs=echoed.top_logprobs + generated.top_logprobs,
            text_offset=echoed.text_offset + generated.text_offset,
        )

    def _echoed(
        self, text: str, ids: Sequence[int], scores: Sequence[TokenLogprob]
    ) -> wire.CompletionLogprobs:
        offsets = prompt_offsets(text, ids, self.token_text, self.decode)
        return self._shape(list(zip(ids, (None, *scores), strict=True)), offsets)

    def _shape(
        self, tokens: Sequence[tuple[int, TokenLogprob | None]], offsets: list[int]
    ) -> wire.CompletionLogprobs:
        name = token_namer(self.job, self.token_text)
        return wire.CompletionLogprobs(
            tokens=[name(token_id) for token_id, _ in tokens],
            token_logprobs=[
                None if found is None else finite(found.logprob) for _, found in tokens
            ],
            top_logprobs=[None if found is None else _named(found, name) for _, found in tokens],
            text_offset=offsets,
        )


def _limited(score: TokenLogprob, top: int) -> TokenLogprob:
    return replace(score, top=score.top[:top])


def _named(found: TokenLogprob, name: TokenText) -> dict[str, float]:
    """By name: the token itself, and the likeliest ones whose names are not taken yet."""
    named: dict[str, float] = {}
    for token_id, logprob in ((found.token_id, found.logprob), *found.top):
        named.setdefault(name(token_id), finite(logprob))
    return named
