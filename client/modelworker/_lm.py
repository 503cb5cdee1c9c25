"""LM: the sync face of `AsyncLM`."""

from collections.abc import Generator, Sequence
from typing import Any, Literal, Unpack, overload

from modelworker import _sync
from modelworker._aio import AsyncLM
from modelworker._batch import OnError
from modelworker._client import LMArguments, SyncClient
from modelworker._errors import ModelWorkerError
from modelworker._requests import Message, Pooling, Prompt, SamplingOptions
from modelworker._results import Chunk, Generation


class LM(LMArguments, SyncClient[AsyncLM]):
    """A language model served by the workers of a ModelWorker, by name.

    The workers are found by watching the ModelWorker through the Kubernetes API, and
    called directly: no API request is made for a call. Each call goes to the ready worker
    with the fewest calls of ours under way. What fails before its answer began is tried
    on another worker until the call's time is over; a stream that has begun is never
    repeated. If no pod can be reached directly, calls from inside the cluster go through
    the Service.

    An `LM` can be pickled, used from many threads, and used after a fork. The first call
    waits for a ready worker.

    Args:
        name: name of the ModelWorker; with `endpoints`, of the served model.
        namespace: its namespace; by default that of the kubeconfig's context or of the
            pod this runs in, else `default`.
        endpoints: base URLs of workers (`http://host:8000`), to do without Kubernetes.
        kubeconfig: path of a kubeconfig; by default `KUBECONFIG`, then `~/.kube/config`,
            then the pod's service account.
        context: context of the kubeconfig; by default its current one.
        timeout: seconds for one prompt, waiting for a worker and retries included; for a
            stream, until its first part and then until each next one.
        ready_timeout: seconds that the first call waits for a ready worker.
        max_in_flight: most calls under way at once; by default 64 for each ready worker.
        progress: show progress of waiting and of long batches; by default on a terminal.

    Raises:
        InvalidRequest: for arguments that can never work.
    """

    _core = AsyncLM

    @overload
    def generate(
        self,
        prompt: str | list[int],
        *,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    def generate(
        self,
        prompt: Any,
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Any,
    ) -> Any:
        """Continue a prompt, or each prompt of a list.

        Args:
            prompt: text or token ids, or a list of these.
            timeout: seconds for each prompt, instead of the LM's.
            on_error: for a list: `"raise"` raises the first error and cancels the rest,
                `"return"` puts each error in its place.
            **options: `n` (1) samples of at most `max_tokens` (256) tokens; `temperature`
                (1.0; 0 is greedy), `top_p` (1.0), `top_k` (-1: all), `min_p` (0.0),
                `repetition_penalty` (1.0), `seed`; `stop` (a string or several),
                `stop_token_ids`, `include_stop_str_in_output` (False), `ignore_eos`
                (False); `logprobs` (likeliest alternatives for each token; the sampled
                tokens' own always come); `extra` (further fields of the request).

        Returns:
            One `Generation`, or for a list a list of them in the same order.

        Raises:
            InvalidRequest: for arguments that no worker accepts, at once.
            ModelWorkerError: see the subclasses for what can go wrong.
        """
        return _sync.run(self.aio.generate(prompt, timeout=timeout, on_error=on_error, **options))

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Generation | ModelWorkerError]: ...
    def chat(
        self,
        messages: Any,
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Any,
    ) -> Any:
        """Answer a conversation, or each of a list, by the model's chat template.

        Args:
            messages: a list of `{"role": ..., "content": ...}`, or a list of such lists.
            continue_final_message: go on with the last message instead of answering it.
            timeout: as for `generate`.
            on_error: as for `generate`.
            **options: as for `generate`.

        Returns:
            One `Generation`, or for a list a list of them in the same order.

        Raises:
            InvalidRequest: for arguments that no worker accepts, at once.
            ModelWorkerError: see the subclasses for what can go wrong.
        """
        return _sync.run(
            self.aio.chat(
                messages,
                continue_final_message=continue_final_message,
                timeout=timeout,
                on_error=on_error,
                **options,
            )
        )

    def stream(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[SamplingOptions]
    ) -> Generator[Chunk, None, None]:
        """Continue a prompt part by part.

        Closing or dropping the iterator ends the request on the worker.

        Args:
            prompt: text or token ids.
            timeout: seconds until the first part, and then until each next one.
            **options: as for `generate`; the parts of several samples interleave.

        Returns:
            An iterator of `Chunk`.

        Raises:
            InvalidRequest: for arguments that no worker accepts, at once.
            StreamInterrupted: if it breaks after its first part, with what was received.
            ModelWorkerError: if it cannot begin.
        """
        return _sync.iterate(self.aio.stream(prompt, timeout=timeout, **options))

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generator[Chunk, None, None]:
        """Answer a conversation part by part; otherwise as `stream`."""
        return _sync.iterate(
            self.aio.stream_chat(
                messages,
                continue_final_message=continue_final_message,
                timeout=timeout,
                **options,
            )
        )

    @overload
    def embed(
        self,
        text: str | list[int],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float]: ...
    @overload
    def embed(
        self,
        text: list[str] | list[list[int]],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[list[float]]: ...
    def embed(
        self,
        text: Any,
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """The vector of a text, or of each text of a list.

        Args:
            text: text or token ids, or a list of these.
            pooling: `"mean"` over the tokens' last hidden states, or the `"last"` one.
            normalize: whether the vector has length 1.
            timeout: seconds for each group of up to 16 texts, instead of the LM's.

        Returns:
            One vector of the model's hidden size, or for a list a list of them.

        Raises:
            ModelWorkerError: see the subclasses for what can go wrong.
        """
        return _sync.run(
            self.aio.embed(text, pooling=pooling, normalize=normalize, timeout=timeout)
        )

    @overload
    def count_tokens(
        self, text: str, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> int: ...
    @overload
    def count_tokens(
        self, text: list[str], *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> list[int]: ...
    def count_tokens(
        self, text: Any, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> Any:
        """Number of tokens of a text, or of each text of a list, as the worker counts.

        Raises:
            ModelWorkerError: see the subclasses for what can go wrong.
        """
        return _sync.run(
            self.aio.count_tokens(text, add_special_tokens=add_special_tokens, timeout=timeout)
        )
