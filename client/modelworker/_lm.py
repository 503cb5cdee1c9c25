"""LM: the sync face of `AsyncLM`."""

from collections.abc import Generator, Sequence
from typing import Any, Literal, Unpack, overload

from modelworker import _sync
from modelworker._aio import AsyncLM, Outcome
from modelworker._batch import OnError
from modelworker._client import LMArguments
from modelworker._lm_batches import BatchCalls
from modelworker._requests import Message, Prompt, SamplingOptions
from modelworker._results import Chunk, Generation


class LM(LMArguments, BatchCalls):
    """A language model served by the workers of a ModelWorker, by name.

    The workers are found by watching the ModelWorker through the Kubernetes API, and
    called directly: no API request is made for a call. Each call goes to a ready worker by
    its load, or by its `session`. What fails before its answer began is tried on another
    worker until the call's time is over; a stream that breaks goes on at another one where
    that is exact. If no pod can be reached directly, calls from inside the cluster go
    through the Service.

    With `provider` it is a model behind an API, called by its official package; the same
    methods give the same results, and what the API does not tell is None. With `fallback`
    a call that nobody can answer now goes to another LM: when there is no ready worker in
    `ready_timeout`, when none can be reached, or all are full until retries are over. What
    is wrong with a request, or takes too long, does not; neither does a stream that began.

    An `LM` can be pickled, with the key if one was given by argument, used from many
    threads, and used after a fork. The first call waits for a ready worker.

    Args:
        name: name of the ModelWorker; with `endpoints` or `provider`, of the served model.
        namespace: its namespace; by default that of the kubeconfig's context or of the
            pod this runs in, else `default`.
        endpoints: base URLs of workers (`http://host:8000`), to do without Kubernetes.
        kubeconfig: path of a kubeconfig; by default `KUBECONFIG`, then `~/.kube/config`,
            then the pod's service account.
        context: context of the kubeconfig; by default its current one.
        timeout: seconds for one prompt, waiting for a worker and retries included; for a
            stream, until its first part and then until each next one.
        ready_timeout: seconds that the first call waits for a ready worker; with a
            `fallback`, that any call waits, or is tried again, before it is passed on.
        max_in_flight: most calls under way at once; by default 64 for each ready worker, and
            64 for another provider.
        progress: show progress of waiting and of long batches; by default on a terminal.
        affinity: `"prefix"` sends prompts that begin alike to the same worker, which has
            their beginning in its cache; by default calls that name a `session` alone.
        adapter: name of a LoRA adapter of the ModelWorker, which answers then.
        access: how workers are reached: `"direct"` at their addresses, `"proxy"` through the
            API server, `"auto"` (the default) directly in a pod and otherwise directly where
            a worker answers, else through the API server; the variable `MODELWORKER_ACCESS`
            says it too.
        service_account: whose token calls show, `NAME` in the object's namespace or
            `NAMESPACE/NAME`, where the API server issues one: by default that of the pod
            this runs in, elsewhere `default`; also as `MODELWORKER_SERVICE_ACCOUNT`.
        api_key: the token that workers want, or the key for another provider's API. Without
            one, workers get the token in the file of `MODELWORKER_TOKEN_FILE`, or that which
            a pod mounts for it, or one that the API server issues; a provider's package reads
            its own variable (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`) at the first call.
        provider: `"modelworker"`, `"openai"` (any server with its API) or `"anthropic"`; by
            default ModelWorkers, with `base_url` OpenAI's API.
        base_url: where the API is, as its package takes it (`https://host/v1`); by default
            where the package's own settings say.
        fallback: the LM, or AsyncLM, to go on with. It has its own time for each call;
            options that it does not have are refused as if it was called.

    Raises:
        InvalidRequest: for arguments that can never work.
        NotInstalled: if the provider's package is missing.
    """

    _core = AsyncLM

    @overload
    def generate(
        self,
        prompt: str | list[int],
        *,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Outcome]: ...
    def generate(
        self,
        prompt: Any,
        *,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Any,
    ) -> Any:
        """Continue a prompt, or each prompt of a list.

        Args:
            prompt: text or token ids, or a list of these.
            session: name of what belongs together, such as a conversation or a search tree:
                calls of one name meet the same worker while its load allows, and with it
                its cache. Of no effect where there is one address.
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
        return _sync.run(
            self.aio.generate(
                prompt, session=session, timeout=timeout, on_error=on_error, **options
            )
        )

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    def chat(
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
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
        **options: Unpack[SamplingOptions],
    ) -> list[Outcome]: ...
    def chat(
        self,
        messages: Any,
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        **options: Any,
    ) -> Any:
        """Answer a conversation, or each of a list, by the model's chat template.

        Args:
            messages: a list of `{"role": ..., "content": ...}`, or a list of such lists.
            continue_final_message: go on with the last message instead of answering it.
            session: as for `generate`.
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
                session=session,
                timeout=timeout,
                on_error=on_error,
                **options,
            )
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generator[Chunk, None, None]:
        """Continue a prompt part by part.

        Closing or dropping the iterator ends the request on the worker.

        Args:
            prompt: text or token ids.
            session: as for `generate`.
            timeout: seconds until the first part, and then until each next one.
            **options: as for `generate`; the parts of several samples interleave.

        Returns:
            An iterator of `Chunk`.

        Raises:
            InvalidRequest: for arguments that no worker accepts, at once.
            StreamInterrupted: if it breaks after its first part and cannot go on at another
                worker, with what was received.
            ModelWorkerError: if it cannot begin.
        """
        return _sync.iterate(self.aio.stream(prompt, session=session, timeout=timeout, **options))

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool = False,
        session: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generator[Chunk, None, None]:
        """Answer a conversation part by part; otherwise as `stream`."""
        return _sync.iterate(
            self.aio.stream_chat(
                messages,
                continue_final_message=continue_final_message,
                session=session,
                timeout=timeout,
                **options,
            )
        )
