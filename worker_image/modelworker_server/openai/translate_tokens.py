"""Text to token ids and back, and what a client needs to know to do it itself."""

from modelworker_api import tokens
from modelworker_server.conversation import plain_messages
from modelworker_server.errors import BadRequest
from modelworker_server.openai.sampling import check_token_ids
from modelworker_server.openai.translate import require_served
from modelworker_server.workers.base import BaseModelWorker


def tokenize(request: tokens.TokenizeRequest, worker: BaseModelWorker) -> tokens.TokenizeResponse:
    """Token ids of a text or of a conversation; the context length does not limit it.

    Raises:
        BadRequest: unless exactly one of `prompt` and `messages` is given.
    """
    require_served(request.model, worker.info)
    if (request.prompt is None) == (request.messages is None):
        raise BadRequest("give either prompt or messages", param="prompt")
    if request.messages is not None:
        ids = worker.encode_chat(
            plain_messages(request.messages), add_generation_prompt=request.add_generation_prompt
        )
    else:
        ids = worker.encode(request.prompt or "", add_special_tokens=request.add_special_tokens)
    return tokens.TokenizeResponse(
        count=len(ids), max_model_len=worker.info.max_model_len, tokens=ids
    )


def detokenize(
    request: tokens.DetokenizeRequest, worker: BaseModelWorker
) -> tokens.DetokenizeResponse:
    """Text of token ids.

    Raises:
        BadRequest: for an id outside the vocabulary.
    """
    require_served(request.model, worker.info)
    check_token_ids("tokens", request.tokens, worker.info.vocab_size)
    text = worker.decode(request.tokens, skip_special_tokens=request.skip_special_tokens)
    return tokens.DetokenizeResponse(prompt=text)
