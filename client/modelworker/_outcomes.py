"""What became of a request -> who answered, or an error in our words. Pure."""

import json
from collections.abc import Mapping

from modelworker import _errors, _refusals
from modelworker._errors import ModelWorkerError
from modelworker._way import Way
from modelworker_api import wire


def decoded(content: bytes) -> object:
    """The JSON of a body; one that is none as text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def origin(headers: Mapping[str, str]) -> tuple[str | None, ...]:
    """What the headers say of who answered: the rest of `Answer`, in its order."""
    get = headers.get
    return (
        get(wire.HEADER_WORKER),
        get(wire.HEADER_REVISION),
        get(wire.HEADER_DTYPE),
        get(wire.HEADER_LOAD),
    )


def by_gateway(way: Way, headers: Mapping[str, str], payload: object) -> bool:
    """Whether an error is the API server's own, and not passed on from the worker."""
    if way.gateway is None or wire.HEADER_WORKER in headers:
        return False
    return _refusals.is_of_api_server(payload)


def failure(way: Way, status: int, headers: Mapping[str, str], content: bytes) -> ModelWorkerError:
    """What an error answer stands for."""
    payload, retry_after = decoded(content), headers.get("retry-after")
    if way.gateway is not None and by_gateway(way, headers, payload):
        error = _refusals.from_gateway(
            status,
            payload,
            worker=way.worker,
            namespace=way.gateway.namespace,
            server=way.gateway.server,
        )
        error.retry_after = _errors.seconds_of(retry_after)
        return error
    return _errors.from_answer(
        status, payload, worker=way.worker, shown=way.shown, retry_after=retry_after
    )


def failed_event(way: Way, payload: Mapping[str, object]) -> ModelWorkerError | None:
    """The error that an event of a stream carries, if it carries one."""
    error = payload.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    return _errors.from_answer(_errors.as_status(code), payload, worker=way.worker)


def no_connection(way: Way, error: Exception) -> ModelWorkerError:
    """For a connection that did not come about."""
    if way.gateway is not None:
        return _at(
            way,
            _errors.ClusterUnavailable(
                f"no connection to the API server {way.gateway.server}, through which worker "
                f"{way.worker} is called: {error}"
            ),
        )
    return _at(
        way,
        _errors.Unreachable(
            f"no connection to worker {way.worker}: {error}; it is gone, or the network does "
            "not let this machine through: from outside the cluster, access='proxy' without "
            "endpoints calls through the API server"
        ),
    )


def broken(way: Way, error: Exception) -> ModelWorkerError:
    """For a connection that ended before the answer did."""
    through = "" if way.gateway is None else f" through the API server {way.gateway.server}"
    said = str(error) or type(error).__name__
    return _at(
        way, _errors.Unavailable(f"the connection to worker {way.worker}{through} broke: {said}")
    )


def ended_early(way: Way) -> ModelWorkerError:
    """For a stream that ended without its last event."""
    return _at(
        way, _errors.Unavailable(f"worker {way.worker} ended the stream without its last event")
    )


def _at(way: Way, error: ModelWorkerError) -> ModelWorkerError:
    error.worker = way.worker
    return error
