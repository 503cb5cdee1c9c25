"""The calls of `LM` that return at once, with a batch."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

from modelworker import _sync
from modelworker._aio import Conversation, Outcome
from modelworker._batches import Batch
from modelworker._batches_aio import AsyncBatch
from modelworker._lm_workers import WorkerCalls
from modelworker._requests import Prompt, SamplingOptions
from modelworker._results import Generation


class BatchCalls(WorkerCalls):
    """What `submit` and `submit_chat` of `LM` do."""

    @overload
    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> Batch[Generation]: ...
    @overload
    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> Batch[Outcome]: ...
    def submit(self, prompts: Any, **options: Any) -> Batch[Any]:
        """Continue prompts in the background: it returns at once, with a batch.

        Args:
            prompts: as for `generate`; a single one is a batch of one.
            **options: as for `generate`, and `session`, `timeout` and `on_error`: what the
                batch does with the errors, `"raise"` them once all items are over, or
                `"return"` them in their places. Either way all items are tried.

        Raises:
            InvalidRequest: for arguments that no worker accepts, before anything is sent.
        """

        async def start() -> AsyncBatch[Any]:
            return self.aio.submit(prompts, **options)

        return Batch(_sync.run(start()))

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
    ) -> Batch[Generation]: ...
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
    ) -> Batch[Outcome]: ...
    def submit_chat(self, conversations: Any, **options: Any) -> Batch[Any]:
        """Answer conversations in the background; otherwise as `submit`."""

        async def start() -> AsyncBatch[Any]:
            return self.aio.submit_chat(conversations, **options)

        return Batch(_sync.run(start()))
