"""Known parameters that this worker does not implement and that would change the answer.

They are refused, because an answer that ignored them would look like the one asked for.
Parameters that nobody knows are ignored, as OpenAI and vLLM do.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from modelworker_api import inference, tokens, wire
from modelworker_server.errors import UnsupportedParameter

_Neutral = Callable[[Any], bool]


def _empty(value: Any) -> bool:
    return value is None or value in ({}, [], "", False)


def _zero(value: Any) -> bool:
    return value is None or value == 0


def _one_of(*values: Any) -> _Neutral:
    return lambda value: value is None or value in values


_GENERATION: Final[Mapping[str, _Neutral]] = {
    "allowed_token_ids": _empty,
    "bad_words": _empty,
    "guided_choice": _empty,
    "guided_grammar": _empty,
    "guided_json": _empty,
    "guided_regex": _empty,
    "logits_processors": _empty,
    "min_tokens": _zero,
    "prompt_embeds": _empty,
    "response_format": lambda value: value is None or value == {"type": "text"},
    "structured_outputs": _empty,
    "truncate_prompt_tokens": _zero,
    "use_beam_search": _empty,
}

_COMPLETION: Final[Mapping[str, _Neutral]] = {**_GENERATION, "suffix": _empty}

_CHAT: Final[Mapping[str, _Neutral]] = {
    **_GENERATION,
    "add_special_tokens": _empty,
    "audio": _empty,
    "chat_template": _empty,
    "chat_template_kwargs": _empty,
    "documents": _empty,
    "echo": _empty,
    "function_call": _one_of("none", "auto"),
    "functions": _empty,
    "modalities": lambda value: _empty(value) or value == ["text"],
    "reasoning_effort": _one_of("none"),
    "tool_choice": _one_of("none", "auto"),
    "tools": _empty,
    "verbosity": _empty,
    "web_search_options": lambda value: value is None,
}

_TOKENS: Final = ("content_parts", "ec_transfer_params", "features", "kv_transfer_params")

_TOKENIZE: Final[Mapping[str, _Neutral]] = {
    name: _CHAT[name] for name in ("chat_template", "chat_template_kwargs", "tools")
}

_REFUSED: Final[Mapping[type[wire.Wire], Mapping[str, _Neutral]]] = {
    wire.CompletionRequest: _COMPLETION,
    wire.ChatCompletionRequest: _CHAT,
    inference.TokensRequest: dict.fromkeys(
        ("content_parts", "ec_transfer_params", "features", "kv_transfer_params"), _empty
    ),
    inference.TokenSampling: {
        **_GENERATION,
        "logprob_token_ids": _empty,
        "prompt_logprob_token_ids": _empty,
    },
    tokens.EmbeddingRequest: {"dimensions": _empty, "truncate_prompt_tokens": _zero},
    tokens.TokenizeRequest: _TOKENIZE,
}

_MESSAGE_PARTS: Final = ("tool_calls", "function_call", "audio")


def refuse_unsupported(shape: type[wire.Wire], data: Mapping[str, Any]) -> None:
    """Return when `data` asks for nothing that this worker knows of and does not do.

    Raises:
        UnsupportedParameter: naming the field.
    """
    if data.get("best_of") not in (None, data.get("n") or 1):
        raise UnsupportedParameter("best_of must equal n; sample n and choose", param="best_of")
    for name, neutral in _REFUSED.get(shape, {}).items():
        if name in data and not neutral(data[name]):
            raise UnsupportedParameter(
                f"{name} is not supported by this worker; leave it out", param=name
            )
    if shape is inference.TokensRequest and isinstance(params := data.get("sampling_params"), dict):
        refuse_unsupported(inference.TokenSampling, params)
    for field, messages in _conversations(data):
        for message in messages:
            for part in _MESSAGE_PARTS:
                if isinstance(message, dict) and message.get(part):
                    raise UnsupportedParameter(
                        f"{part} in {field} is not supported by this worker; send plain text",
                        param=field,
                    )


def _conversations(data: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Every list of messages in a body that is not checked yet, with its place."""
    if isinstance(messages := data.get("messages"), list):
        yield "messages", messages
    inputs = data.get("inputs")
    for index, one in enumerate(inputs if isinstance(inputs, list) else ()):
        if isinstance(one, dict) and isinstance(messages := one.get("messages"), list):
            yield f"inputs[{index}].messages", messages
