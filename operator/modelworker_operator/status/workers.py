"""One entry of `status.workers[]` for each pod."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker_api import kube, wire
from modelworker_operator.status.values import Beat, Pod

MAX_LISTED: Final = 64
PROGRESS_STEP: Final = 5
"""Percent; finer steps would write the status all the time."""

FRESH: Final = "Fresh"
STALE: Final = "Stale"

_BY_LOAD_STATE: Final = {
    wire.LoadState.DOWNLOADING: kube.WorkerState.DOWNLOADING,
    wire.LoadState.LOADING: kube.WorkerState.LOADING,
    wire.LoadState.WARMING: kube.WorkerState.WARMING,
    wire.LoadState.DRAINING: kube.WorkerState.DRAINING,
    wire.LoadState.FAILED: kube.WorkerState.FAILED,
}
LOADING: Final = (
    kube.WorkerState.DOWNLOADING,
    kube.WorkerState.LOADING,
    kube.WorkerState.WARMING,
)
"""States on the way to Ready, as a heartbeat reports them."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A pod, what it last said, and what is concluded from both."""

    pod: Pod
    beat: Beat | None
    state: kube.WorkerState
    revision: str | None
    dtype: str | None
    progress: int | None
    heartbeat: str | None

    def entry(self) -> dict[str, Any]:
        """The entry as stored; what is not known is left out."""
        fields = {
            "pod": self.pod.name,
            "address": self.pod.address,
            "state": self.state.value,
            "revision": self.revision,
            "dtype": self.dtype,
            "progress": self.progress,
            "heartbeat": self.heartbeat,
        }
        return {key: value for key, value in fields.items() if value is not None}


def worker_of(
    pod: Pod,
    beat: Beat | None,
    previous: Mapping[str, Any],
    *,
    stale_after_seconds: float,
    in_grace: bool,
) -> Worker:
    """The worker in a pod; `previous` is the entry that the last status had for it."""
    fresh = beat is not None and beat.age_seconds <= stale_after_seconds
    keep = in_grace and not fresh
    state = _state(pod, beat, previous if keep else {})
    said = beat.heartbeat if beat else None
    progress = said.progress if said else previous.get("progress") if keep else None
    if keep:
        heartbeat = previous.get("heartbeat")
    elif fresh:
        heartbeat = FRESH
    else:
        # A worker reports from its first second, so one that is Ready was heard before.
        heartbeat = STALE if beat or pod.ready else None
    return Worker(
        pod=pod,
        beat=beat,
        state=state,
        revision=(said and said.revision) or previous.get("revision"),
        dtype=(said and said.dtype) or previous.get("dtype"),
        progress=progress // PROGRESS_STEP * PROGRESS_STEP
        if progress is not None and state in LOADING
        else None,
        heartbeat=heartbeat,
    )


def _state(pod: Pod, beat: Beat | None, kept: Mapping[str, Any]) -> kube.WorkerState:
    if pod.deleted:
        return kube.WorkerState.DRAINING
    if pod.ready:
        return kube.WorkerState.READY
    if not pod.running:
        return kube.WorkerState.FAILED if pod.terminated else kube.WorkerState.PENDING
    if beat:
        return _BY_LOAD_STATE.get(beat.heartbeat.state, kube.WorkerState.STARTING)
    if kept.get("state") in _BY_LOAD_STATE.values():
        return kube.WorkerState(kept["state"])
    return kube.WorkerState.STARTING


def listed(workers: tuple[Worker, ...]) -> tuple[Worker, ...]:
    """At most 64, by pod name; those that can be called come before the others."""
    chosen = sorted(workers, key=lambda one: (not one.pod.ready, one.pod.name))[:MAX_LISTED]
    return tuple(sorted(chosen, key=lambda one: one.pod.name))
