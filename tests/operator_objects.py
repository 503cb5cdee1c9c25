"""Objects as an API server and a kubelet would have them, for tests of the operator."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from modelworker_api import kube, wire
from modelworker_operator.config import Config
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.spec import WorkerObject, parse
from modelworker_operator.status import Beat, Observed, status_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
CONFIG = Config(
    namespace="system", worker_image="local/worker:1", heartbeat_url="http://operator:8085"
)
UID = "uid-smol"


def raw_modelworker(
    *, status: Mapping[str, Any] | None = None, generation: int = 1, **spec: Any
) -> dict[str, Any]:
    """A ModelWorker called ns/smol; `spec` replaces top-level fields of a small valid spec."""
    return {
        "apiVersion": kube.API_VERSION,
        "kind": kube.MODELWORKER.kind,
        "metadata": {
            "name": "smol",
            "namespace": "ns",
            "uid": UID,
            "generation": generation,
            "resourceVersion": "7",
        },
        "spec": {
            "model": {"source": {"pvc": {"claimName": "models", "path": "smollm2"}}},
            **spec,
        },
        "status": dict(status or {}),
    }


def raw_rewardmodel(
    *,
    status: Mapping[str, Any] | None = None,
    generation: int = 1,
    scoring: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A RewardModel called ns/smol; `scoring` is added to the least that it needs."""
    spec = {"scoring": {"type": "Process", **(scoring or {})}, **spec}
    raw = raw_modelworker(status=status, generation=generation, **spec)
    return {**raw, "kind": kube.REWARDMODEL.kind}


def rewardmodel(
    *,
    status: Mapping[str, Any] | None = None,
    generation: int = 1,
    scoring: Mapping[str, Any] | None = None,
    **spec: Any,
) -> WorkerObject:
    """The same, parsed."""
    raw = raw_rewardmodel(status=status, generation=generation, scoring=scoring, **spec)
    return parse(kube.REWARDMODEL, raw)


def modelworker(
    *, status: Mapping[str, Any] | None = None, generation: int = 1, **spec: Any
) -> WorkerObject:
    """The same, parsed."""
    return parse(kube.MODELWORKER, raw_modelworker(status=status, generation=generation, **spec))


def deployment(
    worker: WorkerObject | None = None,
    *,
    replicas: int = 1,
    updated: int | None = None,
    progressing: str = "NewReplicaSetAvailable",
    **status: Any,
) -> Manifest:
    """The Deployment of ns/smol, seen by its controller; rolled out unless told otherwise."""
    worker = worker or modelworker(replicas=replicas)
    replicas = worker.spec.replicas
    live = desired_children(worker, CONFIG)[0]
    return {
        **live,
        "metadata": {**live["metadata"], "generation": 3},
        "status": {
            "observedGeneration": 3,
            "replicas": replicas,
            "updatedReplicas": replicas if updated is None else updated,
            "conditions": [{"type": "Progressing", "status": "True", "reason": progressing}],
            **status,
        },
    }


def service(worker: WorkerObject) -> Manifest:
    """The Service of an object."""
    return desired_children(worker, CONFIG)[1]


def pod(
    name: str = "mw-smol-1-a",
    *,
    ready: bool = False,
    ip: str | None = "10.0.0.1",
    deleted: bool = False,
    owner: str = "mw-smol-1",
    state: Mapping[str, Any] | None = None,
    last: Mapping[str, Any] | None = None,
    restarts: int = 0,
    **status: Any,
) -> Manifest:
    """A pod of ns/smol; `state` and `last` are the container's, running by default."""
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": owner, "uid": "uid-rs", "controller": True}
            ],
            **({"deletionTimestamp": "2026-01-02T03:04:05Z"} if deleted else {}),
        },
        "status": {
            "phase": "Running",
            **({"podIP": ip} if ip else {}),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [
                {
                    "name": kube.WORKER_CONTAINER,
                    "image": "local/worker:1",
                    "restartCount": restarts,
                    "state": dict(state or {"running": {}}),
                    "lastState": dict(last or {}),
                }
            ],
            **status,
        },
    }


def unscheduled(message: str, *, reason: str = "Unschedulable") -> Manifest:
    """A pod that the scheduler has no node for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(
        ip=None,
        phase="Pending",
        conditions=[condition],
        containerStatuses=[],
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A container's state before it runs."""
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, message: str = "", **fields: Any) -> dict[str, Any]:
    """A container's state after it ended."""
    return {"terminated": {"exitCode": code, "message": message, "reason": "Error", **fields}}


def beat(state: wire.LoadState = wire.LoadState.READY, *, age: float = 1.0, **fields: Any) -> Beat:
    """A heartbeat; READY ones tell what is served."""
    if state is wire.LoadState.READY:
        fields = {"revision": "abc", "dtype": "float32", "max_model_len": 8192, **fields}
    return Beat(wire.Heartbeat(state=state, **fields), age)


def status_of(
    worker: WorkerObject | None = None,
    *pods: Manifest,
    live: Manifest | None = None,
    beats: Mapping[str, Beat] | None = None,
    now: datetime = NOW,
    **rest: Any,
) -> dict[str, Any]:
    """`status_for` with the children of a rolled-out object unless told otherwise."""
    worker = worker or modelworker()
    return status_for(
        worker,
        Observed(live or deployment(worker), service(worker), pods),
        {f"uid-{name}": one for name, one in (beats or {}).items()},
        now=now,
        **{"problem": None, "in_grace": False, **rest},
    )


def condition(status: Mapping[str, Any], kind: kube.ConditionType) -> dict[str, Any]:
    """One condition of a status."""
    found: dict[str, Any] = next(one for one in status["conditions"] if one["type"] == kind)
    return found
