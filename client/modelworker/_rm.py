"""RMCall: the sync face of `AsyncRMCall`."""

from collections.abc import Sequence
from typing import Any, Literal, overload

from modelworker import _sync
from modelworker._batches import Batch
from modelworker._batches_aio import AsyncBatch
from modelworker._client import RMArguments, SyncClient
from modelworker._rm_aio import AsyncRMCall, Outcome, Steps
from modelworker._score_inputs import Aggregation, Many, One
from modelworker._scores import Score


class RMCall(RMArguments, SyncClient[AsyncRMCall]):
    """A reward model served by the workers of a RewardModel, by name.

    Workers are found and called as those of an `LM`; a list of answers is cut into
    requests that spread over all ready workers, and what a worker that dies leaves behind
    is scored by another one. Scores come in the order of the inputs, each input once; one
    that fails is an error, never a number.

    All scores of one `RMCall` come from one revision of the model and one recipe: the
    first answer decides, and another one later raises `RevisionChanged`.

    An `RMCall` can be pickled, used from many threads, and used after a fork. The first
    call waits for a ready worker.

    Args:
        name: name of the RewardModel; with `endpoints`, of the served model.
        namespace: its namespace; by default that of the kubeconfig's context or of the
            pod this runs in, else `default`.
        endpoints: base URLs of workers (`http://host:8000`), to do without Kubernetes.
        kubeconfig: path of a kubeconfig; by default `KUBECONFIG`, then `~/.kube/config`,
            then the pod's service account.
        context: context of the kubeconfig; by default its current one.
        timeout: seconds for one answer, or one request of a list, waiting for a worker and
            retries included.
        ready_timeout: seconds that the first call waits for a ready worker.
        max_in_flight: most requests under way at once; by default 64 for each ready worker.
        progress: show progress of waiting and of long batches; by default on a terminal.
        affinity: `"prefix"` sends the answers to one question to one worker, which then
            computes the question once; None lets load alone decide. Use it where answers to
            the same questions come in several calls; `session` in a call goes before it.
        access: how workers are reached: `"direct"` at their addresses, `"proxy"` through the
            API server, `"auto"` (the default) directly in a pod and otherwise directly where
            a worker answers, else through the API server; the variable `MODELWORKER_ACCESS`
            says it too.
        service_account: whose token calls show, `NAME` in the object's namespace or
            `NAMESPACE/NAME`, where the API server issues one: by default that of the pod
            this runs in, elsewhere `default`; also as `MODELWORKER_SERVICE_ACCOUNT`.
        api_key: the token that workers want; by default that in the file of
            `MODELWORKER_TOKEN_FILE`, or that which a pod mounts for it, or one that the API
            server issues.
        aggregation: from the scores of the steps to one: `"min"`, `"last"`, `"prod"`,
            `"mean"` or `"sum"`; by default the model's own.
        allow_mixed_revisions: take scores of any revision and recipe.

    Raises:
        InvalidRequest: for arguments that can never work.
    """

    _core = AsyncRMCall

    @overload
    def __call__(
        self, pairs: tuple[str, str], lm_step_tag: str | None = None, *, session: str | None = None
    ) -> list[float]: ...
    @overload
    def __call__(
        self,
        pairs: Sequence[tuple[str, str]],
        lm_step_tag: str | None = None,
        *,
        session: str | None = None,
    ) -> list[list[float]]: ...
    def __call__(
        self, pairs: Any, lm_step_tag: str | None = None, *, session: str | None = None
    ) -> Any:
        """The score of each step, in the shape of OpenR's reward calls.

        Args:
            pairs: a question and its answer, or a list of such pairs.
            lm_step_tag: what separates the steps of an answer; by default the model's own.
            session: as for `score`.

        Returns:
            One score for each step, or for a list of pairs a list of such lists.

        Raises:
            ScoreError: if an answer has no score; the whole call fails.
            ModelWorkerError: see the subclasses for what else can go wrong.
        """
        return _sync.run(self.aio(pairs, lm_step_tag, session=session))

    @overload
    def score(
        self,
        inputs: One,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Score: ...
    @overload
    def score(
        self,
        inputs: Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> list[Score]: ...
    @overload
    def score(
        self,
        inputs: One,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> Outcome: ...
    @overload
    def score(
        self,
        inputs: Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> list[Outcome]: ...
    def score(
        self,
        inputs: Any,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Any = "raise",
    ) -> Any:
        """The score of an answer, or of each answer of a list.

        Args:
            inputs: `(question, response)`, `(question, [step, ...])` or a list of
                `{"role": ..., "content": ...}` that ends with the assistant's; or a list
                of these; or with `steps` a question or a list of questions.
            steps: the steps of the answer, or for a list of questions a list of steps each.
            separator: what splits a response, or the last message, into steps; by default
                the model's own. It does not go with steps.
            aggregation: as for the constructor, instead of its own.
            session: name for inputs that belong together, such as those of one search tree:
                they meet the same worker, which has the beginning of them in its cache.
            timeout: as for the constructor, instead of its own.
            on_error: `"raise"` raises the first error and cancels the rest, `"return"` puts
                each error in its place.

        Returns:
            One `Score`, or for a list a list of them in the same order.

        Raises:
            InvalidRequest: for inputs that can never be scored, before anything is sent.
            ScoreError: if the worker could not score an answer.
            RevisionChanged: if the model or its recipe is another one than at first.
            ModelWorkerError: see the subclasses for what else can go wrong.
        """
        return _sync.run(
            self.aio.score(
                inputs,
                steps=steps,
                separator=separator,
                aggregation=aggregation,
                session=session,
                timeout=timeout,
                on_error=on_error,
            )
        )

    @overload
    def submit(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Batch[Score]: ...
    @overload
    def submit(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> Batch[Outcome]: ...
    def submit(
        self,
        inputs: Any,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Any = "raise",
    ) -> Batch[Any]:
        """Score answers in the background: it returns at once, with a batch.

        Args:
            inputs: as for `score`; a single one is a batch of one.
            steps: as for `score`.
            separator: as for `score`.
            aggregation: as for `score`.
            session: as for `score`.
            timeout: as for `score`.
            on_error: what the batch does with the errors: `"raise"` them once all items are
                over, or `"return"` them in their places. Either way all items are tried.

        Raises:
            InvalidRequest: for inputs that can never be scored, before anything is sent.
        """

        async def start() -> AsyncBatch[Any]:
            return self.aio.submit(
                inputs,
                steps=steps,
                separator=separator,
                aggregation=aggregation,
                session=session,
                timeout=timeout,
                on_error=on_error,
            )

        return Batch(_sync.run(start()))
