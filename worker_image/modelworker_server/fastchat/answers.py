"""From a worker's samples to FastChat's answers: whole, or the text so far. Only set fields go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from modelworker_api import fastchat, wire
from modelworker_server.fastchat.translate import Generation
from modelworker_server.openai.answers import finite, usage
from modelworker_server.workers.base import Sample, TokenLogprob

Answer = fastchat.FastChatAnswer | fastchat.OpenRAnswer


@dataclass(slots=True)
class _Sofar:
    """What is known of one sample."""

    text: str
    tokens: int = 0
    logprob: float = 0.0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, part: Sample) -> None:
        self.text += part.text
        self.tokens += len(part.token_ids)
        self.finish_reason = part.finish_reason
        for token in part.logprobs or ():
            self.logprob += token.logprob
            self.logprobs.append(token)


class Answers:
    """The answer to one request, which grows with each part of a sample.

    Args:
        job: What was asked for.
        token_text: One token as log-probabilities print it.
    """

    def __init__(self, job: Generation, token_text: Callable[[int], str]) -> None:
        self._job = job
        self._token_text = token_text
        self._samples = [_Sofar(job.echoed) for _ in range(job.params.n)]

    @property
    def completion_tokens(self) -> int:
        """Tokens that were generated so far."""
        return sum(sample.tokens for sample in self._samples)

    def add(self, part: Sample) -> None:
        """Take in a new part of a sample, or a whole one."""
        self._samples[part.index].add(part)

    def body(self, *, ended: bool = True) -> Answer:
        """The answer so far, in the shape that the request chose.

        Args:
            ended: Whether to tell why a sample ended.
        """
        counts = usage(len(self._job.prompt), self.completion_tokens)
        if self._job.lists:
            return self._openr(counts)
        (sample,) = self._samples
        answer = fastchat.FastChatAnswer(
            text=sample.text,
            error_code=0,
            usage=counts,
            finish_reason=sample.finish_reason if ended else None,
        )
        if self._job.params.logprobs is not None:
            answer.cumulative_logprob = [finite(sample.logprob)]
            answer.logprobs = self._logprobs(sample.logprobs)
        return answer

    def _openr(self, counts: wire.Usage) -> fastchat.OpenRAnswer:
        return fastchat.OpenRAnswer(
            text=[sample.text for sample in self._samples],
            error_code=0,
            usage=counts,
            cumulative_logprob=[finite(sample.logprob) for sample in self._samples],
            output_token_len=[sample.tokens for sample in self._samples],
            finish_reason=[sample.finish_reason for sample in self._samples],
        )

    def _logprobs(self, logprobs: list[TokenLogprob]) -> wire.CompletionLogprobs:
        texts = [self._token_text(token.token_id) for token in logprobs]
        return wire.CompletionLogprobs(
            tokens=texts,
            token_logprobs=[finite(token.logprob) for token in logprobs],
            top_logprobs=[
                {
                    self._token_text(token_id): finite(value)
                    for token_id, value in ((token.token_id, token.logprob), *token.top)
                }
                for token in logprobs
            ],
            text_offset=list(accumulate(map(len, texts[:-1]), initial=0)) if texts else [],
        )
