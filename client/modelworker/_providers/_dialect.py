"""How requests are worded, by provider, and what each provider has not. Pure."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from modelworker import _requests
from modelworker._errors import InvalidRequest
from modelworker._requests import Body, Message, Prompt, Sampling

NEUTRAL: Final = Sampling()
"""The value at which each option changes nothing."""


class Dialect(Protocol):
    """Words requests; every body has `n`."""

    def check(self, params: Sampling, *, chat: bool, stream: bool, go_on: bool = False) -> None:
        """Refuse what can never work, before anything is sent.

        Args:
            params: how to sample.
            chat: whether it is for a conversation.
            stream: whether the answer is to come in parts.
            go_on: whether the last message is to be continued.

        Raises:
            InvalidRequest: with the option, the provider and the next step.
        """

    def completion(
        self, prompt: Prompt, params: Sampling, *, model: str, stream: bool = False
    ) -> Body:
        """The request that continues a prompt."""

    def chat(
        self,
        messages: Sequence[Message],
        params: Sampling,
        *,
        model: str,
        continue_final_message: bool = False,
        stream: bool = False,
    ) -> Body:
        """The request that answers a conversation."""


class WorkerDialect:
    """The workers' own words: all options; with an adapter, its name for the model's."""

    def __init__(self, adapter: str | None) -> None:
        self._adapter = adapter

    def check(self, params: Sampling, *, chat: bool, stream: bool, go_on: bool = False) -> None:
        """Nothing to refuse: `Sampling` is made of what workers take."""

    def completion(
        self, prompt: Prompt, params: Sampling, *, model: str, stream: bool = False
    ) -> Body:
        """Body of `POST /v1/completions`."""
        return _requests.completion(prompt, params, model=self._adapter or model, stream=stream)

    def chat(
        self,
        messages: Sequence[Message],
        params: Sampling,
        *,
        model: str,
        continue_final_message: bool = False,
        stream: bool = False,
    ) -> Body:
        """Body of `POST /v1/chat/completions`."""
        return _requests.chat(
            messages,
            params,
            model=self._adapter or model,
            continue_final_message=continue_final_message,
            stream=stream,
        )


def refuse(provider: str, params: Sampling, *names: str, instead: str) -> None:
    """Refuse options that a provider has not, unless they change nothing.

    Raises:
        InvalidRequest: for the first of them that has another value than its default.
    """
    for name in names:
        value: Any = getattr(params, name)
        if value != getattr(NEUTRAL, name) and value not in ((), []):
            raise InvalidRequest(f"provider {provider!r} has no {name}: leave it out, {instead}")


def check_extra(params: Sampling, taken: Sequence[str]) -> None:
    """Refuse fields of `extra` that are said by arguments.

    Raises:
        InvalidRequest: with their names.
    """
    if repeated := sorted(set(params.extra or ()) & set(taken)):
        raise InvalidRequest(f"extra repeats {', '.join(repeated)}; give it as an argument")
