"""A pod's stored status -> what is known about its containers when a kubelet starts: pure."""

from datetime import datetime

from modelworker_devcluster.kubelet.api import Object
from modelworker_devcluster.kubelet.status import (
    ContainerRecord,
    Refusal,
    Running,
    Terminated,
    Waiting,
)

_LOST_EXIT_CODE = 137
_FINAL = ("Succeeded", "Failed")


def is_final(pod: Object) -> bool:
    """True when nothing of the pod will ever run (again)."""
    return pod["status"].get("phase") in _FINAL


def start_time(pod: Object, now: datetime) -> datetime:
    """When the pod was first seen by a kubelet."""
    stored = pod["status"].get("startTime")
    return datetime.fromisoformat(stored) if stored else now


def refusal(pod: Object) -> Refusal | None:
    """Why a pod that failed as a whole did so."""
    status = pod["status"]
    if status.get("phase") == "Failed" and status.get("reason"):
        return Refusal(status["reason"], status.get("message", ""))
    return None


def records(pod: Object, now: datetime, *, init: bool) -> tuple[ContainerRecord, ...]:
    """The containers of a pod as a kubelet that just started finds them.

    Processes do not outlive their kubelet, so a container that ran has been lost.

    Args:
        pod: the pod object.
        now: the time at which losses are found out.
        init: whether to take the init containers.
    """
    field, status = (
        ("initContainers", "initContainerStatuses") if init else ("containers", "containerStatuses")
    )
    stored = {one["name"]: one for one in pod["status"].get(status, [])}
    creating = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    return tuple(
        _record(container, stored.get(container["name"], {}), Waiting(creating), now)
        for container in pod["spec"].get(field, [])
    )


def _record(container: Object, stored: Object, fresh: Waiting, now: datetime) -> ContainerRecord:
    state = stored.get("state", {})
    container_id = stored.get("containerID", "")
    found: Waiting | Running | Terminated = fresh
    if terminated := state.get("terminated"):
        found = _terminated(terminated, now)
    elif running := state.get("running"):
        found = Terminated(
            _LOST_EXIT_CODE,
            "ContainerStatusUnknown",
            "The container ended with the kubelet that ran it",
            datetime.fromisoformat(running["startedAt"]),
            now,
            container_id,
        )
    last = stored.get("lastState", {}).get("terminated")
    return ContainerRecord(
        container["name"],
        container["image"],
        state=found,
        last=_terminated(last, now) if last else None,
        restarts=stored.get("restartCount", 0),
        container_id=container_id,
    )


def _terminated(stored: Object, now: datetime) -> Terminated:
    def time(field: str) -> datetime:
        value = stored.get(field)
        return datetime.fromisoformat(value) if value else now

    return Terminated(
        stored["exitCode"],
        stored.get("reason", ""),
        stored.get("message", ""),
        time("startedAt"),
        time("finishedAt"),
        stored.get("containerID", ""),
    )
