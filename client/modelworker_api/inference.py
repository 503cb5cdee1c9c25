"""Tokens in, tokens out over HTTP, and the tokenizer's configuration, with vLLM's names."""

from typing import Any, Literal

from pydantic import ConfigDict

from modelworker_api.logprobs import PromptLogprobs
from modelworker_api.wire import SamplingRequest, TokenIds, Usage, Wire


class TokenSampling(SamplingRequest):
    """How to continue; without `max_tokens` the rest of the context may be used."""

    logprobs: int | None = None


class TokensRequest(Wire):
    """`POST /inference/v1/generate`: one prompt, as token ids."""

    token_ids: TokenIds
    sampling_params: TokenSampling
    model: str | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    return_token_ids: bool | None = None
    """Repeat the prompt's token ids; those of the samples are always there."""
    output_mode: Literal["tokens", "text"] = "tokens"
    """With `text` the samples have their text too, and tokens are named by theirs."""


class TokenChance(Wire):
    """One token that was, or could have been, generated."""

    token_id: int
    token: str
    """`token_id:7`, or its text where the request asks for text."""
    logprob: float
    rank: int | None = None
    """How many tokens are at least as likely, so 1 for the likeliest one."""
    bytes: list[int] | None = None
    """Of its text in UTF-8, where the request asks for text."""
    top_logprobs: list["TokenChance"] | None = None
    """Of a generated token: the likeliest ones in its place."""


class TokensLogprobs(Wire):
    """One entry for each generated token."""

    content: list[TokenChance]


class TokensChoice(Wire):
    """One sample. In a stream, the part that is new."""

    index: int
    text: str | None = None
    token_ids: list[int]
    logprobs: TokensLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class TokensResponse(Wire):
    """Answer to `/inference/v1/generate`, and each event of its stream."""

    request_id: str
    created: int
    model: str
    output_mode: Literal["tokens", "text"]
    choices: list[TokensChoice]
    usage: Usage | None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class TokenizerInfo(Wire):
    """Answer to `GET /tokenizer_info`: what `tokenizer_config.json` says, and the template."""

    model_config = ConfigDict(extra="allow")

    tokenizer_class: str
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    unk_token: str | None = None
    chat_template: str | None = None
