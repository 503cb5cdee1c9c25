"""What the API server says of an object, its pods and its Events -> what is shown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelworker._object import NO_STATUS
from modelworker.cli._advice import next_step
from modelworker.cli._names import kind_of
from modelworker_api import kube
from modelworker_api.kube import ConditionType, WorkerState

NO_REASON: Final = "NoStatus"
"""Shown in place of a reason where the operator has said nothing yet."""
MOST_EVENTS: Final = 5

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of an object."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def holds(self) -> bool:
        """Whether it is True."""
        return self.status == "True"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: what the object's status says, and what its pod says."""

    pod: str
    state: str
    progress: int | None = None
    address: str | None = None
    node: str | None = None
    restarts: int | None = None
    since: datetime | None = None
    heartbeat: str | None = None
    revision: str | None = None
    dtype: str | None = None

    @property
    def ready(self) -> bool:
        """Whether clients call it."""
        return self.state == WorkerState.READY


@dataclass(frozen=True, slots=True)
class Happened:
    """One Event, of the object or of one of its pods."""

    at: datetime | None
    type: str
    reason: str
    about: str
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one object."""

    kind: kube.Kind
    namespace: str
    name: str
    desired: int
    ready_replicas: int
    since: datetime | None
    model: str
    backend: str
    gpus: int
    conditions: tuple[Condition, ...]
    observed: bool
    """Whether the status speaks of the present spec."""
    workers: tuple[Worker, ...]
    not_listed: int
    events: tuple[Happened, ...]

    @property
    def ref(self) -> str:
        """The name as commands take it."""
        return f"{self.kind.short}/{self.name}"

    @property
    def ready(self) -> bool:
        """Whether every worker of the present spec can be called."""
        condition = self.condition(ConditionType.READY)
        return self.observed and condition is not None and condition.holds

    @property
    def reason(self) -> str:
        """Why it is ready or not, as one word."""
        condition = self.told()
        return condition.reason if condition else NO_REASON

    @property
    def message(self) -> str:
        """Why it is ready or not, in words."""
        condition = self.told()
        if condition is None:
            return NO_STATUS
        if not self.observed:
            return f"the operator has not seen the newest spec yet; before: {condition.message}"
        return condition.message

    @property
    def advice(self) -> str | None:
        """The command that helps on; None where there is nothing to do."""
        if self.ready:
            return None
        return next_step(self.reason, ref=self.ref, namespace=self.namespace)

    def told(self) -> Condition | None:
        """The condition that says why: a spec that is not accepted comes before all else."""
        accepted = self.condition(ConditionType.ACCEPTED)
        if accepted is not None and accepted.status == "False":
            return accepted
        return self.condition(ConditionType.READY)

    def condition(self, kind: str) -> Condition | None:
        """One condition, by its type."""
        return next((one for one in self.conditions if one.type == kind), None)

    @property
    def rejected(self) -> Condition | None:
        """`Accepted`, where the operator does not accept the present spec."""
        accepted = self.condition(ConditionType.ACCEPTED)
        refused = accepted is not None and accepted.status == "False" and self.observed
        return accepted if refused else None


def facts_of(body: Body, pods: Iterable[Body] = (), events: Iterable[Body] = ()) -> Facts:
    """All that is shown of an object; pods and Events of others are left out."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    kind = kind_of(body)
    own = {pod["metadata"]["name"]: pod for pod in pods if owns(kind, metadata["name"], pod)}
    said = {entry["pod"]: entry for entry in status.get("workers") or ()}
    names = [*said, *(name for name in own if name not in said)]
    generation = metadata.get("generation", 0)
    return Facts(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        desired=spec.get("replicas", 1),
        ready_replicas=status.get("readyReplicas") or 0,
        since=time_of(metadata.get("creationTimestamp")),
        model=_model(spec, status),
        backend=spec.get("backend") or "",
        gpus=(spec.get("gpu") or {}).get("count") or 0,
        conditions=tuple(_condition(one) for one in status.get("conditions") or ()),
        observed=status.get("observedGeneration", -1) >= generation,
        workers=tuple(_worker(name, said.get(name), own.get(name)) for name in names),
        not_listed=status.get("workersNotListed") or 0,
        events=_latest(events, {(kind.kind, metadata["name"]), *(("Pod", pod) for pod in names)}),
    )


def owns(kind: kube.Kind, name: str, pod: Body) -> bool:
    """Whether a pod is a worker of that object, by its labels."""
    labels = pod["metadata"].get("labels") or {}
    return labels.get(kube.LABEL_KIND) == kind.kind and labels.get(kube.LABEL_NAME) == name


def selector(kind: kube.Kind | None = None, name: str | None = None) -> str:
    """Label selector of the pods of all objects, of those of a kind, or of one."""
    given = {
        kube.LABEL_MANAGED_BY: kube.MANAGED_BY,
        kube.LABEL_KIND: kind.kind if kind else None,
        kube.LABEL_NAME: name,
    }
    return ",".join(f"{key}={value}" for key, value in given.items() if value is not None)


def time_of(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it; None for none or nonsense."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, as short as kubectl says it."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit, below in ((1, "s", 120), (60, "m", 7200), (3600, "h", 172800)):
        if seconds < below:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def _model(spec: Body, status: Body) -> str:
    source = (spec.get("model") or {}).get("source") or {}
    for key, field in (("huggingFace", "repo"), ("pvc", "claimName"), ("hostPath", "path")):
        if key in source:
            found = source[key]
            path = f"/{found['path']}" if key == "pvc" and found.get("path") else ""
            revision = (status.get("model") or {}).get("revision") or found.get("revision") or ""
            at = f"@{revision[:12]}" if revision and key == "huggingFace" else ""
            return f"{'pvc:' if key == 'pvc' else ''}{found.get(field, '?')}{path}{at}"
    return "?"


def _condition(one: Body) -> Condition:
    return Condition(
        one.get("type", ""), one.get("status", ""), one.get("reason", ""), one.get("message", "")
    )


def _worker(name: str, said: Body | None, pod: Body | None) -> Worker:
    said, seen = said or {}, (pod or {}).get("status") or {}
    containers = [
        one for one in seen.get("containerStatuses") or () if one["name"] == kube.WORKER_CONTAINER
    ]
    state = said.get("state")
    if pod is not None and pod["metadata"].get("deletionTimestamp"):
        state = WorkerState.DRAINING.value
    return Worker(
        pod=name,
        state=state or seen.get("phase") or "Gone",
        progress=said.get("progress"),
        address=said.get("address"),
        node=((pod or {}).get("spec") or {}).get("nodeName"),
        restarts=sum(one.get("restartCount", 0) for one in containers) if pod else None,
        since=time_of((pod or {}).get("metadata", {}).get("creationTimestamp")),
        heartbeat=said.get("heartbeat"),
        revision=said.get("revision"),
        dtype=said.get("dtype"),
    )


def _latest(events: Iterable[Body], about: set[tuple[str, str]]) -> tuple[Happened, ...]:
    """The newest Events about these (kind, name), oldest first."""
    found = [
        (when, event, regarding)
        for event in events
        for regarding in [event.get("regarding") or event.get("involvedObject") or {}]
        if (regarding.get("kind"), regarding.get("name")) in about
        for when in [_when(event)]
    ]
    found.sort(key=lambda one: one[0].timestamp() if one[0] else 0.0)
    return tuple(_happened(*one) for one in found[-MOST_EVENTS:])


def _when(event: Body) -> datetime | None:
    series = event.get("series") or {}
    times: Sequence[Any] = (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp") or event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((found for text in times if (found := time_of(text))), None)


def _happened(when: datetime | None, event: Body, regarding: Body) -> Happened:
    series = event.get("series") or {}
    return Happened(
        at=when,
        type=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        about=f"{str(regarding.get('kind')).lower()}/{regarding.get('name')}",
        message=event.get("note") or event.get("message") or "",
        count=series.get("count") or event.get("deprecatedCount") or event.get("count") or 1,
    )
