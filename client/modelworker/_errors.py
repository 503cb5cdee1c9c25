"""Every error of the client, and the one place that maps HTTP answers to them.

`retryable` says that another worker, or the same one later, may answer; the retry loop
asks nothing else.
"""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from modelworker._results import Chunk


class ModelWorkerError(Exception):
    """Base of everything that this package raises on purpose."""

    retryable: ClassVar[bool] = False
    retry_after: float | None = None
    """Seconds the worker asked to wait, if it did."""
    worker: str | None = None
    """Base URL of the worker that the error came from, if it came from one."""


# --- the request ---------------------------------------------------------------------


class InvalidRequest(ModelWorkerError, ValueError):
    """The request is wrong and will be wrong again."""


class ContextTooLong(InvalidRequest):
    """Prompt and answer do not fit into the model's context."""


class ModelNotServed(InvalidRequest):
    """The worker serves another model."""


class Unsupported(InvalidRequest):
    """The worker does not do that."""


# --- finding workers -----------------------------------------------------------------


class NoCluster(ModelWorkerError):
    """No Kubernetes API server is known: neither a kubeconfig nor a pod's service account."""


class ClusterUnavailable(ModelWorkerError):
    """The Kubernetes API server does not answer."""

    retryable = True


class NotInstalled(ModelWorkerError):
    """The cluster does not know the kind, or this Python has not the package of a provider."""


class AccessDenied(ModelWorkerError):
    """The API server, a worker or a provider refused: wrong credentials, or a missing right."""


class Expired(ModelWorkerError):
    """The API server forgot the version to watch from; never leaves discovery."""


class ModelWorkerNotFound(ModelWorkerError, LookupError):
    """There is no ModelWorker, or for `RMCall` no RewardModel, of this name."""


class Rejected(ModelWorkerError):
    """The operator does not accept the object's spec; waiting would not help."""


class NotReady(ModelWorkerError, TimeoutError):
    """No worker became ready in time; carries the `Ready` condition's words."""


# --- calling workers -----------------------------------------------------------------


class Overloaded(ModelWorkerError):
    """Every worker's queue was full until the deadline."""

    retryable = True


class Unavailable(ModelWorkerError):
    """No worker could be reached, or the one reached was not serving."""

    retryable = True


class Unreachable(Unavailable):
    """No connection to the worker: it is gone, or the network does not let us through."""


class WorkerFailed(ModelWorkerError):
    """The worker answered with an error of its own, or with something that is no answer."""


class CallTimeout(ModelWorkerError, TimeoutError):
    """The worker had not answered when the call's time was over."""


class StreamInterrupted(ModelWorkerError):
    """A stream broke and could not go on at another worker. `chunks` holds what came."""

    def __init__(self, message: str, chunks: "tuple[Chunk, ...]" = ()) -> None:
        super().__init__(message)
        self.chunks = chunks

    @property
    def text(self) -> str:
        """The text received, of all samples in order of arrival."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The token ids received, of all samples in order of arrival."""
        return tuple(token for chunk in self.chunks for token in chunk.token_ids or ())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.chunks), self.__dict__


# --- scoring, and batches ------------------------------------------------------------


class ScoreError(ModelWorkerError):
    """The worker could not score one input; the others are not touched by it.

    `index` is its place in the list that was asked for (0 for a single one), `step` the
    step at fault where there is one, `type` the worker's word for what went wrong, such
    as `step_mismatch`, `no_steps` or `non_finite_score`.
    """

    def __init__(self, message: str, index: int, step: int | None, kind: str) -> None:
        super().__init__(message)
        self.index = index
        self.step = step
        self.type = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.index, self.step, self.type), self.__dict__


class InputTooLong(ScoreError, ContextTooLong):
    """One input does not fit into the reward model's context."""


class RevisionChanged(ModelWorkerError):
    """A score came from another model revision or recipe than the first of this client."""


class Cancelled(ModelWorkerError):
    """The item was cancelled before its result came."""


class PartialBatch(ModelWorkerError):
    """Some items of a batch have failed: `results` and `errors` hold each item by index."""

    def __init__(
        self, message: str, results: Mapping[int, Any], errors: Mapping[int, ModelWorkerError]
    ) -> None:
        super().__init__(message)
        self.results = results
        self.errors = errors

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.results, self.errors), self.__dict__


# --- mapping -------------------------------------------------------------------------

_CONTEXT_TYPE = "context_length_exceeded"
_CONTEXT_WORDS = "maximum context length"
GATEWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


def is_success(status: int) -> bool:
    """Whether an HTTP status means that the body is the answer."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def is_unauthorized(status: int) -> bool:
    """Whether an HTTP status means that who asks is not known."""
    return status == HTTPStatus.UNAUTHORIZED


def from_answer(
    status: int,
    payload: object,
    *,
    worker: str,
    shown: str = "the call",
    retry_after: str | None = None,
) -> ModelWorkerError:
    """The error that a worker's HTTP answer stands for.

    Args:
        status: the HTTP status.
        payload: the decoded body: `wire.ErrorResponse`, another server's error, or text.
        worker: base URL of the worker, for the message.
        shown: what the request showed of the caller, for the message.
        retry_after: the `Retry-After` header.
    """
    message, kind = _words(payload)
    said = message or f"HTTP {status} without a message"
    error: ModelWorkerError
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        error = Overloaded(
            f"worker {worker} is over its limit: {said}; "
            "lower max_in_flight, or add replicas with `kubectl scale`"
        )
    elif status in GATEWAY:
        error = Unavailable(f"worker {worker} is not serving: {said}")
    elif status == HTTPStatus.UNAUTHORIZED:
        error = AccessDenied(
            f"worker {worker} does not accept {shown}: {said}. Pass another token as "
            "api_key=..., or its file as MODELWORKER_TOKEN_FILE"
        )
    elif status == HTTPStatus.FORBIDDEN:
        error = AccessDenied(f"worker {worker} refused {shown}: {said}")
    elif kind == _CONTEXT_TYPE or _CONTEXT_WORDS in said:
        error = ContextTooLong(said)
    elif status == HTTPStatus.NOT_FOUND and kind in {"model_not_found", "NotFoundError"}:
        error = ModelNotServed(f"worker {worker} does not serve this model: {said}")
    elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        error = Unsupported(f"worker {worker} has no such route: {said}; is it a model worker?")
    elif status == HTTPStatus.NOT_IMPLEMENTED:
        error = Unsupported(f"worker {worker} does not do that: {said}")
    elif HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        error = InvalidRequest(said)
    else:
        error = WorkerFailed(f"worker {worker} failed with HTTP {status}: {said}; see its log")
    error.worker = worker
    error.retry_after = seconds_of(retry_after)
    return error


def from_item(message: str, *, kind: str, index: int, step: int | None, worker: str) -> ScoreError:
    """The error that a worker's answer gives for one input, in the worker's words."""
    made = InputTooLong if kind == _CONTEXT_TYPE else ScoreError
    error = made(f"input {index}: {message}", index, step, kind)
    error.worker = worker
    return error


def as_status(code: object) -> int:
    """The status that an error inside a stream names; an internal one if it names none."""
    return code if isinstance(code, int) else HTTPStatus.INTERNAL_SERVER_ERROR


def _words(payload: object) -> tuple[str, str]:
    """Message and type of an error body, whichever server wrote it."""
    if not isinstance(payload, Mapping):
        return (str(payload)[:500] if payload else ""), ""
    detail = payload.get("error")
    if isinstance(detail, Mapping):
        return str(detail.get("message") or ""), str(detail.get("type") or "")
    text = payload.get("message") or detail or payload.get("detail") or ""
    return str(text), str(payload.get("type") or "")


def seconds_of(header: str | None, clock: Callable[[], float] = time.time) -> float | None:
    """`Retry-After`, in its form in seconds or as a date; nonsense counts as absent.

    Args:
        header: what the server said, if it did.
        clock: what a date is held against.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(header).timestamp() - clock())
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < float("inf") else None
