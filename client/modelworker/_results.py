"""What calls return: frozen values that know where they came from."""

import math
from dataclasses import dataclass, field

TopLogprobs = tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call, all samples together; None where the server gave none."""

    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion together."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to a prompt.

    `token_ids` holds every generated token, also those of a stop string that was cut
    from `text`, and is None where the server gives none, as other providers do.
    `logprobs` are natural logarithms under the model's own distribution (before
    temperature), one for each token, None where the server gave none. `finish_reason` is
    `"stop"` or `"length"`, else a provider's own word, and None where nothing was
    generated; `stop_reason` is the stop string or id that ended the sample, None at EOS,
    at the length limit, and where the provider does not say.

    Raises:
        ValueError: if `token_ids` and `logprobs` differ in length.
    """

    index: int
    text: str
    token_ids: tuple[int, ...] | None
    logprobs: tuple[float, ...] | None
    finish_reason: str | None
    stop_reason: str | int | None = None
    top_logprobs: TopLogprobs | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token_ids is None:
            return
        for name, values in (("logprobs", self.logprobs), ("top_logprobs", self.top_logprobs)):
            if values is not None and len(values) != len(self.token_ids):
                raise ValueError(
                    f"sample {self.index} has {len(self.token_ids)} token ids "
                    f"but {len(values)} {name}; ask the same worker version for both"
                )

    @property
    def cumulative_logprob(self) -> float | None:
        """Sum of the tokens' log-probabilities; None where there are none."""
        return None if self.logprobs is None else math.fsum(self.logprobs)

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of a token; None without log-probabilities or tokens."""
        return math.fsum(self.logprobs) / len(self.logprobs) if self.logprobs else None


@dataclass(frozen=True, slots=True)
class Generation:
    """The answers to one prompt, in index order, and where they came from.

    `worker` is the pod's name (the URL where the server does not name itself), `model` the
    model that answered; `revision` and `dtype` are the model's as the worker loaded it, None
    where the server does not say.
    """

    samples: tuple[Sample, ...]
    prompt_token_ids: tuple[int, ...] | None
    usage: Usage
    worker: str
    model: str
    revision: str | None = None
    dtype: str | None = None

    @property
    def text(self) -> str:
        """Text of the first sample."""
        return self.samples[0].text

    @property
    def texts(self) -> list[str]:
        """Text of every sample."""
        return [sample.text for sample in self.samples]

    @property
    def token_ids(self) -> tuple[int, ...] | None:
        """Token ids of the first sample; None where the server gave none."""
        return self.samples[0].token_ids

    @property
    def finish_reasons(self) -> list[str | None]:
        """Finish reason of every sample."""
        return [sample.finish_reason for sample in self.samples]

    @property
    def cumulative_logprobs(self) -> list[float | None]:
        """Cumulative log-probability of every sample."""
        return [sample.cumulative_logprob for sample in self.samples]

    @property
    def mean_logprobs(self) -> list[float | None]:
        """Mean log-probability of every sample."""
        return [sample.mean_logprob for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The new part of one sample in a stream; `token_ids` is None where the server gives none."""

    index: int
    text: str
    token_ids: tuple[int, ...] | None = ()
    logprobs: tuple[float, ...] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
