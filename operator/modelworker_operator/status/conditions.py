"""The conditions, decided from what is known of the children and of the workers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelworker_api import kube
from modelworker_operator import names
from modelworker_operator.status.adapters import adapters_verdict
from modelworker_operator.status.facts import Facts, Verdict
from modelworker_operator.status.findings import (
    READY_COUNT,
    Finding,
    creation_failure,
    finding_of,
    worst,
)
from modelworker_operator.status.scoring import scoring_verdict
from modelworker_operator.status.values import condition_of
from modelworker_operator.status.workers import STALE

Reason = kube.Reason


def conditions_for(facts: Facts, *, now: datetime) -> list[dict[str, Any]]:
    """All conditions; times move only where a condition's status changed.

    With a problem, `Accepted` and `Ready` speak of the newest generation, the others of the
    one that was applied last. `ScoringVerified` is a RewardModel's alone, `AdaptersLoaded` is
    there where the spec has adapters.
    """
    generation = facts.worker.generation
    applied = facts.worker.status.get("observedGeneration") if facts.problem else generation
    verdicts = [
        (kube.ConditionType.ACCEPTED, _accepted(facts), generation),
        (kube.ConditionType.AVAILABLE, _available(facts), applied),
        (kube.ConditionType.PROGRESSING, _progress(facts), applied),
        (kube.ConditionType.READY, _ready(facts), generation),
    ]
    if facts.worker.kind == kube.REWARDMODEL:
        verdicts.insert(3, (kube.ConditionType.SCORING_VERIFIED, scoring_verdict(facts), applied))
    if loaded := adapters_verdict(facts):
        verdicts.insert(3, (kube.ConditionType.ADAPTERS_LOADED, loaded, applied))
    return [
        _stored(kind, verdict, facts.worker.status, seen, now) for kind, verdict, seen in verdicts
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
    short, namespace = facts.worker.kind.short, facts.worker.namespace
    command = f"kubectl scale {short} -n {namespace} {facts.worker.name} --replicas=1"
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
    findings = [finding_of(one, facts.spec, facts.worker, before) for one in facts.waiting]
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
