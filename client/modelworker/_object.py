"""A ModelWorker or RewardModel as the API server gives it -> what a caller needs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelworker_api import kube

NO_STATUS: Final = "it has no status yet; is the operator running?"


@dataclass(frozen=True, slots=True)
class View:
    """One state of such an object.

    `workers` are the base URLs of the ready ones, `pods` their pods, `service` is the base
    URL of the Service.
    `rejected` is set when the operator does not accept the present spec; `waiting` says
    what the `Ready` condition and the workers say, `percent` how far the slowest load is.
    """

    workers: tuple[str, ...] = ()
    pods: Mapping[str, str] = field(default_factory=dict)
    service: str | None = None
    rejected: str | None = None
    waiting: str = NO_STATUS
    percent: int | None = None


def view_of(body: Mapping[str, Any]) -> View:
    """What a caller needs of its metadata and status."""
    status = body.get("status") or {}
    workers = status.get("workers") or []
    generation = (body.get("metadata") or {}).get("generation", 0)
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    ready = {
        f"http://{worker['address']}": worker.get("pod", "")
        for worker in workers
        if worker.get("state") == kube.WorkerState.READY and worker.get("address")
    }
    percents = [w["progress"] for w in workers if w.get("progress") is not None]
    return View(
        workers=tuple(ready),
        pods=ready,
        service=status.get("url") or None,
        rejected=_rejected(conditions.get(kube.ConditionType.ACCEPTED), generation),
        waiting=_waiting(conditions.get(kube.ConditionType.READY), workers),
        percent=min(percents, default=None),
    )


def _rejected(accepted: Mapping[str, Any] | None, generation: int) -> str | None:
    """Reason and message of `Accepted=False`, if it is about the present spec."""
    if accepted is None or accepted.get("status") != "False":
        return None
    if accepted.get("observedGeneration", generation) < generation:
        return None
    return _words(accepted)


def _waiting(ready: Mapping[str, Any] | None, workers: Sequence[Mapping[str, Any]]) -> str:
    if ready is None:
        return NO_STATUS
    return _words(ready) or ", ".join(f"{w.get('pod')} {w.get('state')}" for w in workers)


def _words(condition: Mapping[str, Any]) -> str:
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    return f"{reason}: {message}" if message else reason
