"""AsyncLM: the client's core. The sync face in `_lm` only waits for it."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal, TypeVar, Unpack, overload

from modelworker import _answers, _calls, _requests
from modelworker._answers import Answer
from modelworker._batch import OnError, checked_on_error
from modelworker._calls import Call
from modelworker._client import AsyncClient, LMArguments
from modelworker._errors import ModelWorkerError
from modelworker._requests import Body, Message, Pooling, Prompt, SamplingOptions
from modelworker._results import Chunk, Generation
from modelworker._settings import Settings

COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
TOKENIZE: Final = "/tokenize"
EMBED_TOGETHER: Final = 16
"""Inputs that share one embedding request, so that a list spreads over the workers."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class AsyncLM(LMArguments, AsyncClient[Settings]):
    """A language model by name, awaitable; the arguments and methods are those of `LM`.

    It works in any event loop: connections belong to the loop that runs the call, and
    each loop gets its own. Close it with `aclose`, or use it in `async with`.
    """

    # --- calls -----------------------------------------------------------------------

    @overload
    async def generate(
        self,
        prompt: str | list[int],
        *,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    async def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    async def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    async def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> Generation | list[Generation] | list[Generation | ModelWorkerError]:
        """Continue a prompt, or each prompt of a list; see `LM.generate`."""
        params = _requests.sampling(options)

        def body(item: Prompt, model: str) -> Body:
            return _requests.completion(item, params, model=model)

        def parse(answer: Answer, _: Prompt) -> Generation:
            return _answers.completion(answer, n=params.n)

        call = Call(COMPLETIONS, body, parse, self._seconds(timeout))
        if _requests.is_one_prompt(prompt):
            return await _calls.one(self._sessions.here(), call, _requests.checked_prompt(prompt))
        return await self._many(call, _requests.checked_prompts(prompt), on_error)

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    async def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    async def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    async def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> Generation | list[Generation] | list[Generation | ModelWorkerError]:
        """Answer a conversation, or each of a list; see `LM.chat`."""
        params = _requests.sampling(options)

        def body(item: Sequence[Message], model: str) -> Body:
            return _requests.chat(
                item, params, model=model, continue_final_message=continue_final_message
            )

        def parse(answer: Answer, _: Sequence[Message]) -> Generation:
            return _answers.chat(answer, n=params.n)

        call = Call(CHAT, body, parse, self._seconds(timeout))
        if _requests.is_one_conversation(messages):
            return await _calls.one(
                self._sessions.here(), call, _requests.checked_conversation(messages)
            )
        conversations = [
            _requests.checked_conversation(item, f"conversation {i}")
            for i, item in enumerate(messages)
        ]
        return await self._many(call, conversations, on_error)

    def stream(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[SamplingOptions]
    ) -> AsyncGenerator[Chunk, None]:
        """Continue a prompt part by part; see `LM.stream`."""
        params = _requests.sampling(options)
        checked = _requests.checked_prompt(prompt)

        def body(model: str) -> Body:
            return _requests.completion(checked, params, model=model, stream=True)

        return self._stream(COMPLETIONS, body, _answers.completion_chunks, self._seconds(timeout))

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> AsyncGenerator[Chunk, None]:
        """Answer a conversation part by part; see `LM.stream_chat`."""
        params = _requests.sampling(options)
        checked = _requests.checked_conversation(messages)

        def body(model: str) -> Body:
            return _requests.chat(
                checked,
                params,
                model=model,
                continue_final_message=continue_final_message,
                stream=True,
            )

        return self._stream(CHAT, body, _answers.chat_chunks, self._seconds(timeout))

    @overload
    async def embed(
        self,
        text: str | list[int],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float]: ...
    @overload
    async def embed(
        self,
        text: list[str] | list[list[int]],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[list[float]]: ...
    async def embed(
        self,
        text: Prompt | Sequence[Prompt],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float] | list[list[float]]:
        """The vector of a text, or of each text of a list; see `LM.embed`."""

        def body(group: Sequence[Prompt], model: str) -> Body:
            return _requests.embedding(group, model=model, pooling=pooling, normalize=normalize)

        def parse(answer: Answer, group: Sequence[Prompt]) -> list[list[float]]:
            return _answers.embeddings(answer, count=len(group))

        call = Call(EMBEDDINGS, body, parse, self._seconds(timeout))
        if _requests.is_one_prompt(text):
            return (
                await _calls.one(self._sessions.here(), call, [_requests.checked_prompt(text)])
            )[0]
        prompts = _requests.checked_prompts(text)
        groups = [prompts[i : i + EMBED_TOGETHER] for i in range(0, len(prompts), EMBED_TOGETHER)]
        return [vector for group in await self._every(call, groups) for vector in group]

    @overload
    async def count_tokens(
        self, text: str, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> int: ...
    @overload
    async def count_tokens(
        self, text: list[str], *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> list[int]: ...
    async def count_tokens(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        timeout: float | None = None,
    ) -> int | list[int]:
        """Number of tokens of a text, or of each text of a list; see `LM.count_tokens`."""

        def body(item: str, model: str) -> Body:
            return _requests.tokenize(item, model=model, add_special_tokens=add_special_tokens)

        def parse(answer: Answer, _: str) -> int:
            return _answers.token_count(answer)

        call = Call(TOKENIZE, body, parse, self._seconds(timeout))
        if isinstance(text, str):
            return await _calls.one(self._sessions.here(), call, text)
        return await self._every(call, _requests.checked_texts(text))

    # --- the way to the workers ------------------------------------------------------

    async def _many(
        self, call: Call[Item, Result], items: Sequence[Item], on_error: OnError
    ) -> list[Any]:
        checked_on_error(on_error)
        return await _calls.many(
            self._sessions.here(), call, items, on_error=on_error, progress=self._settings.progress
        )

    async def _every(self, call: Call[Item, Result], items: Sequence[Item]) -> list[Result]:
        return await self._many(call, items, "raise")

    async def _stream(
        self,
        path: str,
        body: Callable[[str], Body],
        parse: Callable[[Answer], list[Chunk]],
        timeout: float,
    ) -> AsyncGenerator[Chunk, None]:
        # The session is found inside: a generator belongs to the loop that iterates it.
        async with aclosing(
            _calls.stream(self._sessions.here(), path, body, parse, timeout)
        ) as parts:
            async for part in parts:
                yield part
