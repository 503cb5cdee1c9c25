"""The four conditions, decided from what is known of the children and of the workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from modelworker_api import kube
from modelworker_operator import names
from modelworker_operator.podspec import Manifest
from modelworker_operator.spec import Identity, ModelWorkerSpec
from modelworker_operator.status.findings import (
    READY_COUNT,
    Finding,
    creation_failure,
    finding_of,
    worst,
)
from modelworker_operator.status.values import Problem, condition_of, quote
from modelworker_operator.status.workers import STALE, Worker

Reason = kube.Reason
Truth = Literal["True", "False", "Unknown"]

_LONGEST_PROBLEM: Final = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times."""

    status: Truth
    reason: kube.Reason
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the conditions are decided from."""

    worker: Identity
    spec: ModelWorkerSpec | None
    deployment: Manifest | None
    workers: tuple[Worker, ...]
    problem: Problem | None

    @property
    def refusal(self) -> Verdict | None:
        """The problem as a verdict, short enough for an Event."""
        if not self.problem:
            return None
        return Verdict("False", self.problem.reason, quote(self.problem.message, _LONGEST_PROBLEM))

    @property
    def desired(self) -> int:
        """Replicas asked for."""
        if self.spec:
            return self.spec.replicas
        return int((self.deployment or {}).get("spec", {}).get("replicas") or 0)

    @property
    def ready(self) -> int:
        """Workers that can be called."""
        return sum(one.pod.ready for one in self.workers)

    @property
    def rolled_out(self) -> bool:
        """Whether every pod is of the newest template, and none is missing or too many."""
        counts = self.counts
        return bool(
            self.is_current
            and counts.get("updatedReplicas", 0) == counts.get("replicas", 0) == self.desired
        )

    @property
    def is_current(self) -> bool:
        """Whether the Deployment's status speaks of its newest spec."""
        if not self.deployment:
            return False
        generation = self.deployment["metadata"].get("generation", 0)
        return bool(self.counts.get("observedGeneration", 0) >= generation)

    @property
    def counts(self) -> Mapping[str, Any]:
        """The Deployment's own status."""
        return (self.deployment or {}).get("status") or {}

    def progress_is(self, reason: str) -> bool:
        """Whether the Deployment gives this reason for how its rollout goes."""
        said = condition_of(self.counts, "Progressing").get("reason")
        return self.is_current and said == reason

    @property
    def deadline_exceeded(self) -> bool:
        """Whether the Deployment gave up waiting for its pods."""
        return self.progress_is("ProgressDeadlineExceeded")


def conditions_for(facts: Facts, *, now: datetime) -> list[dict[str, Any]]:
    """All conditions; times move only where a condition's status changed.

    With a problem, `Accepted` and `Ready` speak of the newest generation, the other two
    of the one that was applied last.
    """
    generation = facts.worker.generation
    applied = facts.worker.status.get("observedGeneration") if facts.problem else generation
    return [
        _stored(kind, verdict, facts.worker.status, seen, now)
        for kind, verdict, seen in (
            (kube.ConditionType.ACCEPTED, _accepted(facts), generation),
            (kube.ConditionType.AVAILABLE, _available(facts), applied),
            (kube.ConditionType.PROGRESSING, _progress(facts), applied),
            (kube.ConditionType.READY, _ready(facts), generation),
        )
    ]


def _stored(
    kind: kube.ConditionType,
    verdict: Verdict,
    status: Mapping[str, Any],
    generation: int | None,
    now: datetime,
) -> dict[str, Any]:
    before = condition_of(status, kind)
    kept = before.get("lastTransitionTime") if before.get("status") == verdict.status else None
    return {
        "type": kind.value,
        "status": verdict.status,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "lastTransitionTime": kept or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({} if generation is None else {"observedGeneration": generation}),
    }


def _accepted(facts: Facts) -> Verdict:
    if facts.refusal:
        return facts.refusal
    child = names.child_name(facts.worker)
    return Verdict("True", Reason.VALID, f"Deployment and Service {child} match the spec")


def _available(facts: Facts) -> Verdict:
    count = f"{facts.ready} of {facts.desired} workers ready"
    if facts.ready:
        return Verdict("True", Reason.MINIMUM_REPLICAS_AVAILABLE, count)
    if facts.desired == 0:
        return _scaled_to_zero(facts)
    return Verdict(
        "False",
        Reason.REPLICAS_UNAVAILABLE,
        f"{count}: no call can be answered; the condition Ready says why",
    )


def _scaled_to_zero(facts: Facts) -> Verdict:
    command = f"kubectl scale mw -n {facts.worker.namespace} {facts.worker.name} --replicas=1"
    return Verdict(
        "False", Reason.SCALED_TO_ZERO, f"no worker is asked for; `{command}` starts one"
    )


def _progress(facts: Facts) -> Verdict:
    deployment = names.child_name(facts.worker)
    look = f"`kubectl describe deployment -n {facts.worker.namespace} {deployment}`"
    if facts.refusal and not facts.deployment:
        return facts.refusal
    if facts.deadline_exceeded:
        seconds = f"{facts.spec.progress_deadline_seconds} s" if facts.spec else "its deadline"
        return Verdict(
            "False",
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"no progress within {seconds}; the condition Ready says why, {look} says more, "
            f"spec.rollout.progressDeadlineSeconds allows more time",
        )
    if facts.rolled_out and facts.progress_is("NewReplicaSetAvailable"):
        return Verdict("True", Reason.ROLLOUT_COMPLETE, "every worker runs the newest template")
    updated = facts.counts.get("updatedReplicas", 0) if facts.is_current else 0
    return Verdict(
        "True",
        Reason.ROLLOUT_IN_PROGRESS,
        f"{updated} of {facts.desired} workers run the newest template; {look} shows the rollout",
    )


def _ready(facts: Facts) -> Verdict:
    if facts.refusal:
        return facts.refusal
    if facts.desired == 0:
        return _scaled_to_zero(facts)
    count = f"{facts.ready} of {facts.desired}"
    if facts.rolled_out and facts.ready >= facts.desired:
        return _all_ready(facts, count)
    why = _why_not(facts)
    return Verdict("False", why.reason, f"{count}{READY_COUNT}{why.message}")


def _all_ready(facts: Facts, count: str) -> Verdict:
    silent = [one.pod.name for one in facts.workers if one.heartbeat == STALE and one.pod.ready]
    if not silent:
        return Verdict("True", Reason.ALL_REPLICAS_READY, f"{count} workers ready")
    stale_after = f"{facts.spec.heartbeat.stale_after_seconds} s" if facts.spec else "its limit"
    return Verdict(
        "Unknown",
        Reason.HEARTBEAT_STALE,
        f"{count} workers ready, but no heartbeat from {silent[0]} for more than {stale_after} "
        f"({len(silent)} silent); it is still called; "
        f"`kubectl logs -n {facts.worker.namespace} {silent[0]}` shows why, or the network "
        f"between worker and operator is closed",
    )


def _why_not(facts: Facts) -> Finding:
    namespace = facts.worker.namespace
    before = condition_of(facts.worker.status, kube.ConditionType.READY)
    waiting = [one for one in facts.workers if not one.pod.ready and not one.pod.deleted]
    # A pod that is over is replaced: it tells something only while it is the only one.
    pods = [one for one in waiting if not one.pod.ended] or waiting
    findings = [finding_of(one, facts.spec, namespace, before) for one in pods]
    if facts.deployment and (failure := creation_failure(facts.deployment, namespace)):
        findings.append(failure)
    if found := worst(findings):
        return found
    deployment = names.child_name(facts.worker)
    look = f"`kubectl describe deployment -n {namespace} {deployment}`"
    if facts.deadline_exceeded:
        return Finding(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"the rollout made no progress within its deadline; see {look}",
        )
    if not facts.rolled_out:
        return Finding(
            Reason.ROLLOUT_IN_PROGRESS,
            f"not every worker runs the newest template yet; {look} shows the rollout",
        )
    return Finding(Reason.REPLICAS_NOT_READY, f"a pod is missing; see {look}")
