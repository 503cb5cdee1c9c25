"""Why a worker is not ready: a reason only with its evidence, and what to do about it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelworker_api import kube, wire
from modelworker_operator.podspec import Manifest
from modelworker_operator.spec import Identity, WorkerSpec
from modelworker_operator.status.remedies import LOAD_FAILURES, remedy
from modelworker_operator.status.values import Pod, condition_of, quote
from modelworker_operator.status.workers import LOADING, STALE, Worker

Reason = kube.Reason

_ORDER: Final = (
    *LOAD_FAILURES,
    Reason.OUT_OF_MEMORY,
    Reason.IMAGE_PULL_FAILED,
    Reason.CONTAINER_CONFIG_ERROR,
    Reason.CRASH_LOOP,
    Reason.INSUFFICIENT_GPU,
    Reason.VOLUME_CLAIM_NOT_FOUND,
    Reason.UNSCHEDULABLE,
    Reason.QUOTA_EXCEEDED,
    Reason.POD_CREATION_FAILED,
    Reason.REPLICAS_NOT_READY,
    Reason.DOWNLOADING,
    Reason.LOADING,
    Reason.WARMING,
    Reason.STARTING,
)
"""The first of these that any pod shows is the one that is told."""

READY_COUNT: Final = " workers ready: "
"""Between how many workers are ready and why the others are not."""

_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_BACK_OFF: Final = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull)?(: )?')
_LAST_WORD: Final = re.compile(
    rf"^({'|'.join(reason.value for reason in wire.FailureReason)}): (.*)$", re.MULTILINE
)
_EXTENDED: Final = re.compile(r"Insufficient (?P<name>[\w.-]+/[\w.-]*\w)")
_LOOP_RESTARTS: Final = 2
_LONG_RUN_SECONDS: Final = 600.0
"""A container that ran this long is no loop; the kubelet forgets its back-off then too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason, its evidence and what to do."""

    reason: kube.Reason
    message: str


def finding_of(
    worker: Worker, spec: WorkerSpec | None, owner: Identity, before: Mapping[str, Any]
) -> Finding:
    """Why this worker is not ready. `before` is what the last status said of it."""
    where = _Where(owner.kind, owner.namespace, worker.pod.name)
    return (
        _unscheduled(worker.pod, spec, where)
        or _not_created(worker.pod, where)
        or _ended(worker.pod, where)
        or _died(worker.pod, where)
        or _reported(worker, where, before)
        or Finding(
            Reason.STARTING,
            f"pod {where.pod}: {_stage(worker)}; {where.describe} shows what it waits for",
        )
    )


def worst(findings: Iterable[Finding]) -> Finding | None:
    """The finding to tell; None if there is none."""
    return min(findings, key=lambda one: _ORDER.index(one.reason), default=None)


def creation_failure(deployment: Manifest, namespace: str) -> Finding | None:
    """Why the Deployment could not make a pod, by its own condition."""
    condition = condition_of(deployment.get("status") or {}, "ReplicaFailure")
    if condition.get("status") != "True":
        return None
    name, said = deployment["metadata"]["name"], str(condition.get("message", ""))
    if "exceeded quota" in said:
        return Finding(
            Reason.QUOTA_EXCEEDED,
            f"a pod could not be created: {quote(said)}; lower spec.replicas or spec.resources, or "
            f"have the quota raised: `kubectl describe quota -n {namespace}`",
        )
    return Finding(
        Reason.POD_CREATION_FAILED,
        f"a pod could not be created: {quote(said)}; "
        f"see `kubectl describe replicaset -n {namespace}` of Deployment {name}",
    )


@dataclass(frozen=True, slots=True)
class _Where:
    """A pod of an object of some kind, and the commands that show more of it."""

    kind: kube.Kind
    namespace: str
    pod: str

    @property
    def describe(self) -> str:
        """Everything that Kubernetes knows of the pod."""
        return f"`kubectl describe pod -n {self.namespace} {self.pod}`"

    @property
    def logs(self) -> str:
        """What the worker printed."""
        return f"`kubectl logs -n {self.namespace} {self.pod}`"

    @property
    def last_logs(self) -> str:
        """What the worker printed before it ended."""
        return f"`kubectl logs -n {self.namespace} {self.pod} --previous`"


def _unscheduled(pod: Pod, spec: WorkerSpec | None, where: _Where) -> Finding | None:
    condition = condition_of(pod.status, "PodScheduled")
    if condition.get("status") != "False":
        return None
    said = str(condition.get("message", ""))
    gpu = _missing_gpu(said, spec)
    if gpu:
        reason = Reason.INSUFFICIENT_GPU
        todo = (
            f"lower spec.gpu.count or spec.replicas, or add nodes with {gpu}; "
            f"`kubectl describe nodes` shows what is free"
        )
    elif re.search(r'persistentvolumeclaim "[^"]*" not found', said):
        reason = Reason.VOLUME_CLAIM_NOT_FOUND
        todo = (
            f"create the claim, or correct spec.model.source.pvc.claimName; "
            f"`kubectl get pvc -n {where.namespace}` lists those that exist"
        )
    else:
        reason = Reason.UNSCHEDULABLE
        todo = f"see spec.scheduling and {where.describe}"
    return Finding(reason, f"pod {where.pod} found no node: {quote(said)}; {todo}")


def _missing_gpu(said: str, spec: WorkerSpec | None) -> str | None:
    """The extended resource that the scheduler misses; a worker asks for no other than its GPUs."""
    found = _EXTENDED.search(said)
    if not found or not spec or spec.gpu.resource_name not in (None, found["name"]):
        return None
    return found["name"]


def _not_created(pod: Pod, where: _Where) -> Finding | None:
    said = pod.waiting.get("reason", "")
    if said in _IMAGE:
        detail = quote(_BACK_OFF.sub("", str(pod.waiting.get("message", ""))))
        return Finding(
            Reason.IMAGE_PULL_FAILED,
            f"pod {where.pod}: image {quote(str(pod.container.get('image', '')))} cannot be pulled"
            f"{f': {detail}' if detail else ''}; correct spec.image, or name a Secret for its "
            f"registry in spec.imagePullSecrets; {where.describe}",
        )
    if said == "CreateContainerConfigError":
        return Finding(
            Reason.CONTAINER_CONFIG_ERROR,
            f"pod {where.pod}: {quote(str(pod.waiting.get('message', '')))}; create what is "
            f"missing or correct spec.env, spec.image or the token's Secret; {where.describe}",
        )
    return None


def _died(pod: Pod, where: _Where) -> Finding | None:
    """From how the container ended. It stays told until the pod is ready."""
    end = pod.terminated
    if not end:
        return None
    said, code = str(end.get("message", "")), end.get("exitCode")
    if words := _LAST_WORD.findall(said):
        return _load_failure(Reason(words[-1][0]), words[-1][1], where)
    if end.get("reason") == "OOMKilled":
        return Finding(
            Reason.OUT_OF_MEMORY,
            f"pod {where.pod}: killed for memory (exit code {code}); raise "
            f"spec.resources.limits.memory, or set a smaller model or spec.model.dtype",
        )
    lines = [line for line in said.splitlines() if line.strip()]
    last = f", last line: {quote(lines[-1])}" if lines else ""
    ended = f"pod {where.pod}: the worker ended with exit code {code}{last}"
    if _loops(pod):
        return Finding(Reason.CRASH_LOOP, f"{ended}, again and again; {where.last_logs}")
    if pod.running:
        return None  # it was started again, and says by itself how far it is
    return Finding(Reason.REPLICAS_NOT_READY, f"{ended}; it is started again; {where.last_logs}")


def _loops(pod: Pod) -> bool:
    if pod.waiting.get("reason") == "CrashLoopBackOff":
        return True
    return (
        pod.container.get("restartCount", 0) >= _LOOP_RESTARTS
        and _seconds(pod.terminated) < _LONG_RUN_SECONDS
    )


def _seconds(terminated: Mapping[str, Any]) -> float:
    """How long the container ran, both times by the node's clock."""
    try:
        start, end = (datetime.fromisoformat(terminated[k]) for k in ("startedAt", "finishedAt"))
    except (KeyError, TypeError, ValueError):
        return 0.0
    return (end - start).total_seconds()


def _load_failure(reason: kube.Reason, said: str, where: _Where) -> Finding:
    """What the worker says about its failure to load."""
    return Finding(
        reason,
        f"pod {where.pod}: {quote(said) or reason.value}; {remedy(reason, where.kind)}; "
        f"{where.logs} shows all of it",
    )


def _reported(worker: Worker, where: _Where, before: Mapping[str, Any]) -> Finding | None:
    if worker.state is kube.WorkerState.FAILED and worker.pod.running:
        if worker.beat:
            said = worker.beat.heartbeat
            reason = Reason(said.reason or wire.FailureReason.LOAD_FAILED)
            return _load_failure(reason, said.message, where)
        # Kept over a restart of the operator, which has not heard from the worker yet.
        if before.get("reason") in LOAD_FAILURES:
            told = str(before.get("message", "")).rpartition(READY_COUNT)[2]
            return Finding(Reason(before["reason"]), told)
    if worker.state in LOADING:
        percent = f" {worker.progress} %" if worker.progress is not None else ""
        silent = ", silent for some time" if worker.heartbeat == STALE else ""
        return Finding(
            Reason(worker.state.value),
            f"pod {where.pod}: {worker.state.value}{percent}{silent}; {where.logs} shows more",
        )
    return None


def _ended(pod: Pod, where: _Where) -> Finding | None:
    if not pod.ended:
        return None
    said = quote(f"{pod.status.get('reason', 'ended')}: {pod.status.get('message', '')}")
    return Finding(Reason.REPLICAS_NOT_READY, f"pod {where.pod}: {said}; {where.describe}")


def _stage(worker: Worker) -> str:
    if worker.pod.running and worker.state is kube.WorkerState.DRAINING:
        return "the worker finishes its requests and ends"
    if worker.pod.running and worker.beat and worker.beat.heartbeat.state is wire.LoadState.READY:
        return "the worker says that it is ready, but its readiness probe does not pass"
    if worker.pod.running:
        return "the worker process is starting"
    waiting = worker.pod.waiting
    why = ": ".join(str(waiting[k]) for k in ("reason", "message") if waiting.get(k))
    return f"its container has not started ({quote(why) or 'Pending'})"
