"""The language-model call of OpenR's search: `lm(prompt, config)`.

from modelworker import LM
from modelworker.integrations.openr import OpenRLM

lm_call = OpenRLM(LM("policy", namespace="research"))

`RMCall` has the form of OpenR's reward calls itself: `rm(pairs, lm_step_tag)`.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

from modelworker._errors import Unsupported
from modelworker._lm import LM
from modelworker._results import Sample

STEP_TAG: Final = "\n\n"
"""What ends a step where the model was not trained with another separator."""


class Config(Protocol):
    """What a call says about sampling; OpenR's `LMCallingConfig` is one."""

    n: int
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int | None
    stop_token_ids: list[int] | None
    stop_str: str | list[str] | None
    include_stop_str_in_output: bool


@dataclass(frozen=True, slots=True)
class OpenRResult:
    """The samples of one call, each list in their order, and the prompt's token count."""

    text: list[str]
    prompt_tokens: int
    num_tokens: list[int]
    cumulative_logprob: list[float]
    logp_avg_by_len: list[float]
    finish_reason: list[str | None]

    @property
    def completion_tokens(self) -> int:
        """Generated tokens of all samples."""
        return sum(self.num_tokens)


class OpenRLM:
    """An `LM` as OpenR calls one; it can be pickled, as its 32 search processes need.

    Args:
        lm: a ModelWorker's LM: a search needs token counts and log-probabilities.
        lm_step_tag: what ends a step in this model's answers.
    """

    def __init__(self, lm: LM, lm_step_tag: str = STEP_TAG) -> None:
        self._lm = lm
        self.lm_step_tag = lm_step_tag

    def __repr__(self) -> str:
        return f"OpenRLM({self._lm!r}, lm_step_tag={self.lm_step_tag!r})"

    def __call__(self, input_str: str, config: Config) -> OpenRResult:
        """Continue a prompt, which has its chat template already.

        Args:
            input_str: the prompt.
            config: how to sample. `max_new_tokens` of None is the LM's default of 256.

        Returns:
            Text, token count, cumulative and mean log-probability, and finish reason of each
            sample; a sample without tokens has the mean 0.

        Raises:
            InvalidRequest: for a value that no worker accepts.
            Unsupported: if the answer has no token ids or no log-probabilities.
            ModelWorkerError: see the subclasses for what else can go wrong.
        """
        limit: Any = {} if config.max_new_tokens is None else {"max_tokens": config.max_new_tokens}
        answer = self._lm.generate(
            input_str,
            n=config.n,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            stop=config.stop_str,
            stop_token_ids=config.stop_token_ids,
            include_stop_str_in_output=config.include_stop_str_in_output,
            **limit,
        )
        samples = answer.samples
        prompt_tokens = answer.usage.prompt_tokens
        if prompt_tokens is None:
            raise _incomplete("the prompt's token count", answer.worker)
        return OpenRResult(
            text=answer.texts,
            prompt_tokens=prompt_tokens,
            num_tokens=[len(_logprobs(sample, answer.worker)) for sample in samples],
            cumulative_logprob=[math.fsum(_logprobs(sample, answer.worker)) for sample in samples],
            logp_avg_by_len=[sample.mean_logprob or 0.0 for sample in samples],
            finish_reason=answer.finish_reasons,
        )


def _logprobs(sample: Sample, worker: str) -> tuple[float, ...]:
    if sample.token_ids is None or sample.logprobs is None:
        raise _incomplete("token ids or log-probabilities", worker)
    return sample.logprobs


def _incomplete(what: str, worker: str) -> Unsupported:
    return Unsupported(f"{worker} gives no {what}, which a search needs: use a ModelWorker's LM")
