"""Requests in the words of the `openai` package. Pure."""

from collections.abc import Sequence
from typing import Final

from modelworker._errors import InvalidRequest
from modelworker._providers._dialect import check_extra, refuse
from modelworker._requests import Body, Message, Prompt, Sampling

_MISSING: Final = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
)
_SAID: Final = (
    "model",
    "prompt",
    "messages",
    "stream",
    "max_completion_tokens",
    "top_logprobs",
    "n",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "logprobs",
)
"""Fields that arguments stand for: `extra` has no place for them."""


class OpenAIDialect:
    """OpenAI's API, or one that is compatible with it.

    OpenAI's own models refuse options that they do not know, even at their defaults: there
    only what differs is sent. A compatible server may have other defaults, such as those of
    the model's generation config: there `temperature` and `top_p` are always sent.

    Args:
        compatible: whether it is another server than OpenAI's.
    """

    def __init__(self, *, compatible: bool) -> None:
        self._compatible = compatible

    def check(self, params: Sampling, *, chat: bool, stream: bool, go_on: bool = False) -> None:  # noqa: ARG002
        """Refuse the options of workers that OpenAI's API has not; see `Dialect.check`."""
        refuse(
            "openai",
            params,
            *_MISSING,
            instead="or pass it through extra={...} if this server takes it",
        )
        if go_on:
            raise InvalidRequest(
                "provider 'openai' has no continue_final_message: ask anew, or pass "
                "extra={'continue_final_message': True, 'add_generation_prompt': False} if this "
                "server takes it"
            )
        check_extra(params, _SAID)

    def completion(
        self, prompt: Prompt, params: Sampling, *, model: str, stream: bool = False
    ) -> Body:
        """Arguments of `client.completions.create`."""
        body = self._common(params, model, stream=stream)
        body |= {"prompt": prompt, "max_tokens": params.max_tokens}
        if params.logprobs is not None:
            body["logprobs"] = params.logprobs
        return body

    def chat(
        self,
        messages: Sequence[Message],
        params: Sampling,
        *,
        model: str,
        continue_final_message: bool = False,  # noqa: ARG002 - refused by `check`
        stream: bool = False,
    ) -> Body:
        """Arguments of `client.chat.completions.create`."""
        body = self._common(params, model, stream=stream)
        body["messages"] = messages
        body["max_tokens" if self._compatible else "max_completion_tokens"] = params.max_tokens
        if params.logprobs is not None:
            body["logprobs"] = True
        if params.logprobs:
            body["top_logprobs"] = params.logprobs
        return body

    def _common(self, params: Sampling, model: str, *, stream: bool) -> Body:
        body: Body = {"model": model, "n": params.n}
        for name in ("temperature", "top_p"):
            value = getattr(params, name)
            if self._compatible or value != 1.0:
                body[name] = value
        if params.stops:
            body["stop"] = list(params.stops)
        if params.seed is not None:
            body["seed"] = params.seed
        if stream:
            body["stream"] = True
        if params.extra:
            body["extra_body"] = dict(params.extra)
        return body
