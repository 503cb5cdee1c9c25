"""From a request of tokens in, tokens out to what a worker is asked."""

from modelworker_api import inference
from modelworker_server.errors import BadRequest
from modelworker_server.openai.sampling import check_token_ids, include_usage, sampling_params
from modelworker_server.openai.translate import Job, checked, max_tokens, require_served
from modelworker_server.workers.base import BaseModelWorker


def tokens_job(request: inference.TokensRequest, worker: BaseModelWorker) -> Job:
    """What `POST /inference/v1/generate` asks for.

    Raises:
        BadRequest: for a value out of range.
        ContextTooLong: for a prompt without room for its answer.
        ModelNotServed: for another model.
    """
    info, sampling = worker.info, request.sampling_params
    require_served(request.model, info)
    if not request.token_ids:
        raise BadRequest("token_ids is empty; give at least one token", param="token_ids")
    check_token_ids("token_ids", request.token_ids, info.vocab_size)
    params = sampling_params(
        sampling,
        max_tokens=max_tokens(
            sampling.max_tokens,
            len(request.token_ids),
            info.max_model_len,
            field="token_ids",
            default=info.max_model_len,
        ),
        logprobs=sampling.logprobs,
        vocab_size=info.vocab_size,
    )
    return checked(
        Job(
            prompts=(tuple(request.token_ids),),
            params=params,
            stream=bool(request.stream),
            include_usage=include_usage(request.stream_options, stream=bool(request.stream)),
            return_token_ids=bool(request.return_token_ids),
            tokens_as_ids=request.output_mode == "tokens",
            prompt_logprobs=sampling.prompt_logprobs,
        )
    )
