"""AsyncLM: the client's core. The sync face in `_lm` only waits for it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Unpack, overload

from modelworker import _dispatch, _prompts, _requests
from modelworker._aio_routes import Ask, AsyncRoutes
from modelworker._batch import OnError
from modelworker._batches_aio import AsyncBatch
from modelworker._client import LMArguments
from modelworker._errors import ModelWorkerError
from modelworker._requests import Message, Prompt, SamplingOptions
from modelworker._results import Chunk, Generation

Conversation = Sequence[Message]
Outcome = Generation | ModelWorkerError


class AsyncLM(LMArguments, AsyncRoutes):
    """A language model by name, awaitable; the arguments and methods are those of `LM`.

    It works in any event loop: connections belong to the loop that runs the call, and
    each loop gets its own. Close it with `aclose`, or use it in `async with`.
    """

    @overload
    async def generate(
        self,
        prompt: str | list[int],
        *,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    async def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    async def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    async def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> Generation | list[Generation] | list[Outcome]:
        """Continue a prompt, or each prompt of a list; see `LM.generate`."""
        routes = self._routes(Ask(_requests.sampling(options), session, timeout))
        if _prompts.is_one_prompt(prompt):
            return await _dispatch.one(routes, _prompts.checked_prompt(prompt))
        return await self._many(routes, _prompts.checked_prompts(prompt), on_error)

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    async def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
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
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    async def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> Generation | list[Generation] | list[Outcome]:
        """Answer a conversation, or each of a list; see `LM.chat`."""
        params = _requests.sampling(options)
        ask = Ask(params, session, timeout, chat=True, go_on=continue_final_message)
        if _prompts.is_one_conversation(messages):
            return await _dispatch.one(self._routes(ask), _prompts.checked_conversation(messages))
        return await self._many(
            self._routes(ask), _prompts.checked_conversations(messages), on_error
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> AsyncGenerator[Chunk, None]:
        """Continue a prompt part by part; see `LM.stream`."""
        ask = Ask(_requests.sampling(options), session, timeout, stream=True)
        return _dispatch.stream(self._routes(ask), _prompts.checked_prompt(prompt))

    def stream_chat(
        self,
        messages: Conversation,
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> AsyncGenerator[Chunk, None]:
        """Answer a conversation part by part; see `LM.stream_chat`."""
        params = _requests.sampling(options)
        ask = Ask(params, session, timeout, chat=True, stream=True, go_on=continue_final_message)
        return _dispatch.stream(self._routes(ask), _prompts.checked_conversation(messages))

    @overload
    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Generation]: ...
    @overload
    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Outcome]: ...
    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Any]:
        """Continue prompts in the background of this event loop; see `LM.submit`."""
        routes = self._routes(Ask(_requests.sampling(options), session, timeout))
        one = _prompts.is_one_prompt(prompts)
        items = _prompts.checked_prompts([prompts] if one else prompts)
        return self._batch(routes, items, on_error)

    @overload
    def submit_chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Generation]: ...
    @overload
    def submit_chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Outcome]: ...
    def submit_chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Unpack[SamplingOptions],
    ) -> AsyncBatch[Any]:
        """Answer conversations in the background of this event loop; see `LM.submit_chat`."""
        params = _requests.sampling(options)
        ask = Ask(params, session, timeout, chat=True, go_on=continue_final_message)
        one = _prompts.is_one_conversation(conversations)
        items = _prompts.checked_conversations([conversations] if one else conversations)
        return self._batch(self._routes(ask), items, on_error)
