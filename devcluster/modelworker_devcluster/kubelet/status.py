"""What is known about a pod -> its `status`: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Object


@dataclass(frozen=True, slots=True)
class Waiting:
    """The container does not run (yet)."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""

    started_at: datetime


@dataclass(frozen=True, slots=True)
class Terminated:
    """The container ran, or could not be started (`started_at` is then the attempt)."""

    exit_code: int
    reason: str
    message: str
    started_at: datetime
    finished_at: datetime
    container_id: str


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """What is known about one container."""

    name: str
    image: str
    state: Waiting | Running | Terminated = Waiting("ContainerCreating")
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""

    @property
    def succeeded(self) -> bool:
        """True when it ended with exit code 0 and stays ended."""
        return isinstance(self.state, Terminated) and self.state.exit_code == 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the pod is not run at all."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodRecord:
    """What is known about one pod.

    Attributes:
        start_time: when this kubelet, or the one before it, saw the pod first.
        pod_ip: its address, "" before it has one.
        restart_policy: of the pod.
        init_containers: in the order they run.
        containers: in the order of the spec.
        not_enforced: fields of the spec that nothing enforces here.
        refusal: set when the pod is not run.
        ending: True when nothing of it will be started again.
        ephemeral: names and images of debug containers, all refused.
    """

    start_time: datetime
    pod_ip: str
    restart_policy: str
    init_containers: tuple[ContainerRecord, ...]
    containers: tuple[ContainerRecord, ...]
    not_enforced: tuple[str, ...] = ()
    refusal: Refusal | None = None
    ending: bool = False
    ephemeral: tuple[tuple[str, str], ...] = ()


def timestamp(time: datetime) -> str:
    """A time as the API server stores it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def should_restart(policy: str, exit_code: int, *, init: bool) -> bool:
    """True when a container that ended is started again."""
    if exit_code == 0:
        return policy == "Always" and not init
    return policy != "Never"


def phase(record: PodRecord) -> str:
    """The pod's phase."""
    everyone = (*record.init_containers, *record.containers)
    if record.refusal is not None:
        return "Failed"
    if _over(record):
        return "Succeeded" if all(one.succeeded for one in everyone) else "Failed"
    waiting = any(isinstance(one.state, Waiting) and one.last is None for one in record.containers)
    return "Pending" if waiting or not _initialized(record) else "Running"


def pod_status(
    record: PodRecord, *, generation: int, before: Iterable[Object], now: datetime
) -> Object:
    """The `status` of a pod.

    Args:
        record: what is known.
        generation: the pod's `metadata.generation` that was acted on.
        before: the conditions stored so far, for their transition times.
        now: the time of a condition that changes.
    """
    known = {condition["type"]: condition for condition in before}
    result: Object = {
        "observedGeneration": generation,
        "phase": phase(record),
        "conditions": [
            _condition(verdict, known.get(verdict.kind, {}), now) for verdict in _verdicts(record)
        ],
        "startTime": timestamp(record.start_time),
        "hostIP": names.NODE_IP,
        "hostIPs": [{"ip": names.NODE_IP}],
        "containerStatuses": [_container(one, init=False) for one in record.containers],
        "initContainerStatuses": [_container(one, init=True) for one in record.init_containers],
    }
    if record.ephemeral:
        refused = Waiting(names.REASON_NOT_SUPPORTED, "ephemeral containers are not supported")
        result["ephemeralContainerStatuses"] = [
            _container(ContainerRecord(name, image, state=refused), init=False)
            for name, image in record.ephemeral
        ]
    if record.pod_ip:
        result |= {"podIP": record.pod_ip, "podIPs": [{"ip": record.pod_ip}]}
    if record.refusal is not None:
        result |= {
            "reason": record.refusal.reason,
            "message": record.refusal.message,
            "containerStatuses": [],
            "initContainerStatuses": [],
        }
    return result


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: str
    holds: bool
    reason: str = ""
    message: str = ""


def _verdicts(record: PodRecord) -> list[_Verdict]:
    now = phase(record)
    behind = _names(one for one in record.init_containers if not one.succeeded)
    initialized = _Verdict("Initialized", holds=True)
    if not _initialized(record):
        message = f"containers with incomplete status: {behind}"
        initialized = _Verdict("Initialized", False, "ContainersNotInitialized", message)
    ready, reason, message = True, "", ""
    if now in {"Succeeded", "Failed"}:
        ready, reason = False, "PodCompleted" if now == "Succeeded" else "PodFailed"
    elif not all(one.ready for one in record.containers):
        behind = _names(one for one in record.containers if not one.ready)
        message = f"containers with unready status: {behind}"
        ready, reason = False, "ContainersNotReady"
    verdicts = [
        _Verdict("PodScheduled", holds=True),
        _Verdict(
            "PodReadyToStartContainers", bool(record.pod_ip) and now in {"Pending", "Running"}
        ),
        initialized,
        _Verdict("ContainersReady", ready, reason, message),
        _Verdict("Ready", ready, reason, message),
    ]
    if record.not_enforced and record.refusal is None:
        fields = ", ".join(record.not_enforced)
        message = f"containers run as plain processes; not enforced: {fields}"
        verdicts.append(_Verdict(names.CONDITION_ISOLATION, False, "PlainProcesses", message))
    return verdicts


def _condition(verdict: _Verdict, before: Object, now: datetime) -> Object:
    status = "True" if verdict.holds else "False"
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": verdict.kind,
        "status": status,
        # None takes a reason or message away that was there before.
        "reason": verdict.reason or None,
        "message": verdict.message or None,
        "lastTransitionTime": since or timestamp(now),
    }


def _container(record: ContainerRecord, *, init: bool) -> Object:
    running = isinstance(record.state, Running)
    return {
        "name": record.name,
        "image": record.image,
        "imageID": record.image if record.container_id else "",
        "containerID": record.container_id or None,
        "state": _state(record.state),
        "lastState": _state(record.last) if record.last is not None else {},
        "restartCount": record.restarts,
        "ready": record.succeeded if init else record.ready and running,
        "started": record.started and running,
    }


def _state(state: Waiting | Running | Terminated) -> Mapping[str, Any]:
    match state:
        case Waiting():
            return {"waiting": {"reason": state.reason, "message": state.message}}
        case Running():
            return {"running": {"startedAt": timestamp(state.started_at)}}
        case Terminated():
            return {
                "terminated": {
                    "exitCode": state.exit_code,
                    "reason": state.reason,
                    "message": state.message,
                    "startedAt": timestamp(state.started_at),
                    "finishedAt": timestamp(state.finished_at),
                    "containerID": state.container_id,
                }
            }


def _initialized(record: PodRecord) -> bool:
    return all(one.succeeded for one in record.init_containers)


def _over(record: PodRecord) -> bool:
    """True when no container runs and none will run again."""
    containers = record.containers
    if record.ending:
        everyone = (*record.init_containers, *containers)
        return not any(isinstance(one.state, Running) for one in everyone)
    if not _initialized(record):
        return record.restart_policy == "Never" and any(map(_failed, record.init_containers))
    if record.restart_policy == "Always" or any(map(_unfinished, containers)):
        return False
    return record.restart_policy == "Never" or all(one.succeeded for one in containers)


def _failed(record: ContainerRecord) -> bool:
    return isinstance(record.state, Terminated) and record.state.exit_code != 0


def _unfinished(record: ContainerRecord) -> bool:
    return not isinstance(record.state, Terminated)


def _names(records: Iterable[ContainerRecord]) -> str:
    return "[" + " ".join(record.name for record in records) + "]"
