"""Requests in the words of the `anthropic` package. Pure."""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from modelworker._errors import InvalidRequest
from modelworker._providers._dialect import check_extra, refuse
from modelworker._requests import Body, Message, Prompt, Sampling

_MISSING: Final = (
    "min_p",
    "repetition_penalty",
    "stop_token_ids",
    "seed",
    "logprobs",
    "ignore_eos",
)
_SAID: Final = (
    "model",
    "messages",
    "system",
    "stream",
    "stop_sequences",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
)
_SYSTEM: Final = ("system", "developer")


class AnthropicDialect:
    """Anthropic's Messages API, which has conversations alone and one sample a request.

    `temperature`, `top_p` and `top_k` go beside the SDK's own arguments, which lack them:
    models that do not take them say so.
    """

    def check(self, params: Sampling, *, chat: bool, stream: bool, go_on: bool = False) -> None:  # noqa: ARG002
        """Refuse what the Messages API has not; see `Dialect.check`."""
        if not chat:
            _no_prompts()
        refuse(
            "anthropic",
            params,
            *_MISSING,
            instead="or ask a ModelWorker",
        )
        if stream and params.n > 1:
            raise InvalidRequest(
                "provider 'anthropic' streams one sample: leave n out, or use chat, which asks "
                "for each sample by itself"
            )
        check_extra(params, _SAID)

    def completion(
        self,
        prompt: Prompt,  # noqa: ARG002
        params: Sampling,  # noqa: ARG002
        *,
        model: str,  # noqa: ARG002
        stream: bool = False,  # noqa: ARG002
    ) -> Body:
        """Refused, as by `check`."""
        _no_prompts()

    def chat(
        self,
        messages: Sequence[Message],
        params: Sampling,
        *,
        model: str,
        continue_final_message: bool = False,
        stream: bool = False,
    ) -> Body:
        """How many samples, what to do with the stop string, and what each request says."""
        system, turns = _split(messages, go_on=continue_final_message)
        request: Body = {"model": model, "max_tokens": params.max_tokens, "messages": turns}
        if system:
            request["system"] = system
        if params.stops:
            request["stop_sequences"] = list(params.stops)
        if stream:
            request["stream"] = True
        extra: Body = {}
        for name, neutral in (("temperature", 1.0), ("top_p", 1.0), ("top_k", -1)):
            if (value := getattr(params, name)) != neutral:
                extra[name] = value
        if extra := {**extra, **(params.extra or {})}:
            request["extra_body"] = extra
        return {
            "n": params.n,
            "keep_stop": params.include_stop_str_in_output,
            "request": request,
        }


def _no_prompts() -> NoReturn:
    raise InvalidRequest(
        "provider 'anthropic' continues no prompts, it answers conversations: use chat, or "
        "stream_chat"
    )


def _split(messages: Sequence[Message], *, go_on: bool) -> tuple[str, list[Message]]:
    """The system prompt, and the turns without it.

    Raises:
        InvalidRequest: if the conversation has another form than the Messages API takes.
    """
    count = 0
    while count < len(messages) and messages[count]["role"] in _SYSTEM:
        count += 1
    turns = list(messages[count:])
    for index, message in enumerate(turns, count):
        if (role := message["role"]) not in ("user", "assistant"):
            place = "come before all others" if role in _SYSTEM else "are unknown to it"
            raise InvalidRequest(
                f"message {index} has the role {role!r}: on provider 'anthropic' messages of that "
                f"role {place}; give 'user' and 'assistant'"
            )
    if not turns:
        raise InvalidRequest("the conversation has system messages alone; add the user's")
    if (turns[-1]["role"] == "assistant") != go_on:
        raise InvalidRequest(
            "continue_final_message needs a last message of the assistant"
            if go_on
            else "provider 'anthropic' continues a last message of the assistant: say so with "
            "continue_final_message=True, or end with the user's"
        )
    return "\n\n".join(_text(message.get("content")) for message in messages[:count]), turns


def _text(content: Any) -> str:
    """The text of a system message, whole or in parts."""
    if isinstance(content, str):
        return content
    try:
        return "".join(part["text"] for part in content)
    except (TypeError, KeyError) as error:
        raise InvalidRequest(
            f"a system message must be a text, or a list of text parts, not {content!r:.80}"
        ) from error
