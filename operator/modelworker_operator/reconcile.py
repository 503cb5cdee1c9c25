"""One pass over one object: gather, decide, apply. Create, update, repair and restart are this."""

import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator.cluster import Cluster, reference_to
from modelworker_operator.config import Config
from modelworker_operator.desired import desired_children
from modelworker_operator.drift import conflicting_owner, needs_apply
from modelworker_operator.errors import (
    ApplyForbidden,
    ApplyRejected,
    ChildConflict,
    InvalidSpec,
    NotFound,
    OperatorError,
)
from modelworker_operator.podspec import Manifest
from modelworker_operator.policy import check_allowed
from modelworker_operator.resources import (
    DEPLOYMENTS,
    OWNERS,
    PODS,
    SERVICES,
    Resource,
    resource_of,
)
from modelworker_operator.spec import Identity, WorkerObject, identify, parse
from modelworker_operator.status import Beat, Observed, Problem, status_for
from modelworker_operator.store import Key, Store
from modelworker_operator.transitions import Transition, transitions

STEPS: Final = (
    "before-apply",
    "after-deployment",
    "after-service",
    "before-status",
    "after-status",
)
"""Where `Config.fail_at` can end the process, in the order of a pass."""

_REASONS: Final[Mapping[type[OperatorError], kube.Reason]] = {
    InvalidSpec: kube.Reason.INVALID_SPEC,
    ChildConflict: kube.Reason.CHILD_CONFLICT,
    ApplyForbidden: kube.Reason.APPLY_FORBIDDEN,
    ApplyRejected: kube.Reason.APPLY_REJECTED,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """What a pass reads and writes. `beats` gives the heartbeats of pods, by their uids."""

    store: Store
    cluster: Cluster
    config: Config
    send_events: Callable[[Mapping[str, Any], Sequence[Transition]], None]
    beats: Callable[[Sequence[str]], Mapping[str, Beat]]
    in_grace: Callable[[], bool]
    now: Callable[[], datetime]


async def reconcile(key: Key, world: World) -> bool:
    """Bring the children of one object to its spec, and its status to what is seen.

    Returns:
        True when nothing is left to do until something changes; False when the pass is
        to be repeated after a delay.
    """
    resource = OWNERS[key.kind]
    entry = world.store.get(resource, key.namespace, key.name)
    raw = entry.load() if entry else {}
    if not raw or "deletionTimestamp" in raw["metadata"]:
        return True  # Owner references clean up.
    try:
        worker, problem = await _apply_children(key.kind, raw, world)
        _fail(world, "before-status")
        old = raw.get("status") or {}
        status = status_for(
            worker,
            _gather(key, worker, world),
            world.beats([pod.uid for pod in world.store.children(key, PODS)]),
            problem=problem,
            in_grace=world.in_grace(),
            now=world.now(),
        )
        if status != old:
            written = await world.cluster.apply_status(raw, status)
            world.store.put(resource, written)
            _fail(world, "after-status")
            world.send_events(reference_to(raw), transitions(old, status))
            # The answer may hold a newer spec, whose own event is then no news any more.
            if written["metadata"]["generation"] != raw["metadata"]["generation"]:
                return False
    except NotFound:
        return True  # Deleted meanwhile, or its namespace; the watch tells it too.
    except OperatorError as error:
        _log.warning("%s: %s", key, error)
        return False
    if problem:
        _log.warning("%s: %s: %s", key, problem.reason, problem.message)
    return problem is None or problem.reason is kube.Reason.INVALID_SPEC


async def _apply_children(
    kind: kube.Kind, raw: Mapping[str, Any], world: World
) -> tuple[Identity, Problem | None]:
    """Apply each child that differs, up to the first that cannot be."""
    worker: Identity = identify(kind, raw)
    try:
        worker = parse(kind, raw)
        check_allowed(worker.spec, world.config)
        for manifest in desired_children(worker, world.config):
            await _apply_child(worker, manifest, world)
    except (InvalidSpec, ChildConflict, ApplyForbidden, ApplyRejected) as error:
        return worker, Problem(_REASONS[type(error)], str(error))
    return worker, None


async def _apply_child(worker: WorkerObject, manifest: Manifest, world: World) -> None:
    resource = resource_of(manifest)
    namespace, name = worker.namespace, manifest["metadata"]["name"]
    entry = world.store.get(resource, namespace, name)
    # An object without our labels is not watched, but may have the name all the same.
    live = entry.load() if entry else await world.cluster.get(resource, namespace, name)
    owner = conflicting_owner(worker, live)
    if owner:
        raise ChildConflict(
            f"{resource.kind} {namespace}/{name} exists and belongs to {owner}; delete or "
            f"rename it, or give the {worker.kind.kind} another name"
        )
    if not needs_apply(manifest, live):
        return
    _fail(world, "before-apply")
    _log.info("%s %s/%s: applied", resource.kind, namespace, name)
    world.store.put(resource, await world.cluster.apply(manifest))
    _fail(world, f"after-{resource.kind.lower()}")


def _gather(key: Key, worker: Identity, world: World) -> Observed:
    """The children as known now, this pass's own writes included."""

    def owned(resource: Resource) -> Manifest | None:
        for entry in world.store.children(key, resource):
            child = entry.load()
            if conflicting_owner(worker, child) is None:
                return child
        return None

    return Observed(
        deployment=owned(DEPLOYMENTS),
        service=owned(SERVICES),
        pods=tuple(pod.load() for pod in world.store.children(key, PODS)),
    )


def _fail(world: World, step: str) -> None:
    """End the process as a crash would, if the settings name this step."""
    if world.config.fail_at == step:
        os.kill(os.getpid(), signal.SIGKILL)
