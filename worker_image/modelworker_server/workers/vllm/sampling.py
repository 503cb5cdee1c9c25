"""Between this package's sampling parameters and samples and those of vLLM."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from vllm.sampling_params import RequestOutputKind
from vllm.sampling_params import SamplingParams as EngineParams

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import Sample, SamplingParams, TokenLogprob

_ENDED: Final = frozenset({"stop", "length"})


def engine_params(params: SamplingParams, *, streaming: bool) -> Any:
    """What vLLM is given: parts as they come in a stream, or the whole at the end."""
    return EngineParams(
        n=params.n,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=max(0, params.top_k),
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=dict(params.logit_bias) or None,
        seed=params.seed,
        stop=list(params.stop),
        stop_token_ids=sorted(params.stop_token_ids),
        include_stop_str_in_output=params.include_stop_str_in_output,
        ignore_eos=params.ignore_eos,
        logprobs=params.logprobs,
        skip_special_tokens=params.skip_special_tokens,
        output_kind=RequestOutputKind.DELTA if streaming else RequestOutputKind.FINAL_ONLY,
    )


def scoring_params(top: int) -> Any:
    """What vLLM is given to score a prompt: it always generates a token, which is dropped."""
    return EngineParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=top,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def samples_of(outputs: Iterable[Any], params: SamplingParams) -> tuple[Sample, ...]:
    """The samples, or parts of samples, in vLLM's outputs, in index order.

    Raises:
        Unavailable: one of them was ended from outside.
    """
    return tuple(
        _sample(output, params) for output in sorted(outputs, key=lambda output: output.index)
    )


def logprobs_of(
    token_ids: Sequence[int], positions: Sequence[Mapping[int, Any]], top: int
) -> tuple[TokenLogprob, ...]:
    """The log-probability of each token, from vLLM's table for each of their positions."""
    return tuple(
        _logprob(token_id, table, top) for token_id, table in zip(token_ids, positions, strict=True)
    )


def _sample(output: Any, params: SamplingParams) -> Sample:
    if output.finish_reason is not None and output.finish_reason not in _ENDED:
        raise Unavailable(f"the engine ended the request ({output.finish_reason}); send it again")
    token_ids = tuple(output.token_ids)
    stop = output.stop_reason
    return Sample(
        index=output.index,
        text=output.text,
        token_ids=token_ids,
        logprobs=None
        if params.logprobs is None
        else logprobs_of(token_ids, output.logprobs or (), params.logprobs),
        finish_reason=output.finish_reason,
        # vLLM tells the id of a second EOS token as if the request had asked for it.
        stop_reason=stop if isinstance(stop, str) or stop in params.stop_token_ids else None,
    )


def _logprob(token_id: int, table: Mapping[int, Any], top: int) -> TokenLogprob:
    # The token itself is in the table even if it is none of the likeliest.
    likeliest = sorted(table.items(), key=lambda item: item[1].rank)[:top]
    own = table[token_id]
    return TokenLogprob(
        token_id=token_id,
        logprob=own.logprob,
        top=tuple((one, entry.logprob) for one, entry in likeliest),
        rank=own.rank,
    )
