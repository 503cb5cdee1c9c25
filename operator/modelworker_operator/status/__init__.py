"""Status as a value: spec, observed world, heartbeats and time in, the whole status out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelworker_operator import names
from modelworker_operator.spec import HuggingFaceSource, Identity, WorkerObject
from modelworker_operator.status.adapters import adapters_status
from modelworker_operator.status.conditions import conditions_for
from modelworker_operator.status.facts import Facts
from modelworker_operator.status.scoring import scoring_status
from modelworker_operator.status.values import Beat, Observed, Pod, Problem, condition_of, owned
from modelworker_operator.status.workers import Worker, listed, worker_of

__all__ = ["Beat", "Observed", "Problem", "condition_of", "status_for"]

_STALE_AFTER_SECONDS = 45.0
"""For an object whose spec cannot be read."""


def status_for(
    worker: Identity,
    observed: Observed,
    beats: Mapping[str, Beat],
    *,
    problem: Problem | None,
    in_grace: bool,
    now: datetime,
) -> dict[str, Any]:
    """The whole status of an object: same input and unchanged world, equal result.

    Args:
        worker: the object, or its bare Identity if the spec is invalid (then `problem` says
            why). Its `status` is the one stored last.
        observed: the children; pods that the Deployment did not make are left out.
        beats: the last heartbeat of each pod, by the pod's uid.
        problem: why the children could not be brought to the spec; None after a pass
            without error, and only then does `observedGeneration` move.
        in_grace: heartbeats are not to be concluded from (the operator started a moment
            ago): what the last status says of a silent worker is kept.
        now: the operator's clock, for `lastTransitionTime` of what changed.
    """
    spec = worker.spec if isinstance(worker, WorkerObject) else None
    observed = owned(worker, observed)
    before = worker.status
    entries = {entry.get("pod"): entry for entry in before.get("workers") or ()}
    workers = tuple(
        worker_of(
            pod,
            beats.get(pod.uid),
            entries.get(pod.name, {}),
            stale_after_seconds=spec.heartbeat.stale_after_seconds
            if spec
            else _STALE_AFTER_SECONDS,
            in_grace=in_grace,
        )
        for pod in map(Pod, sorted(observed.pods, key=lambda raw: str(raw["metadata"]["name"])))
    )
    running = tuple(one for one in workers if not one.pod.ended)
    shown = listed(running)
    facts = Facts(worker, spec, observed.deployment, workers, problem)
    status = {
        "observedGeneration": before.get("observedGeneration") if problem else worker.generation,
        "replicas": ((observed.deployment or {}).get("status") or {}).get("replicas", 0),
        "readyReplicas": facts.ready,
        "selector": names.selector_text(worker),
        "url": names.service_url(worker) if observed.service else None,
        "model": _model(worker, running),
        "scoring": scoring_status(facts) or None,
        "adapters": adapters_status(facts) or None,
        "workers": [one.entry() for one in shown],
        "workersNotListed": len(running) - len(shown) or None,
        "conditions": conditions_for(facts, now=now),
    }
    return {key: value for key, value in status.items() if value is not None}


def _model(worker: Identity, workers: tuple[Worker, ...]) -> dict[str, Any]:
    """What the ready workers serve; a field on which they differ is left out."""
    before = worker.status.get("model") or {}
    if not isinstance(worker, WorkerObject):
        return dict(before)
    ready = [one for one in workers if one.pod.ready]
    lengths = {
        one.beat.heartbeat.max_model_len if one.beat else before.get("maxModelLen") for one in ready
    }
    source = worker.spec.model.source
    asked = source.revision if isinstance(source, HuggingFaceSource) else None
    model = {
        "name": worker.spec.model.name,
        "revision": _same({one.revision for one in ready}) if ready else asked,
        "dtype": _same({one.dtype for one in ready}),
        "maxModelLen": _same(lengths),
    }
    return {key: value for key, value in model.items() if value is not None}


def _same(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None
