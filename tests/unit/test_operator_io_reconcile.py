"""One pass, with an API server that is a dictionary: what it writes and what it makes of errors."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from modelworker_api import kube
from modelworker_operator.config import Config
from modelworker_operator.errors import (
    ApplyForbidden,
    ApplyRejected,
    ClusterUnavailable,
    NotFound,
    NotLeading,
    OperatorError,
)
from modelworker_operator.reconcile import World, reconcile
from modelworker_operator.resources import (
    DEPLOYMENTS,
    MODELWORKERS,
    OWNERS,
    Resource,
    resource_of,
)
from modelworker_operator.store import Key, Store
from modelworker_operator.transitions import Transition

KEY = Key(kube.MODELWORKER, "ns", "one")


@dataclass
class FakeCluster:
    """Keeps what is applied; `errors` are raised instead, by the kind that is written."""

    errors: Mapping[str, OperatorError] = field(default_factory=dict)
    unlabelled: dict[str, Any] | None = None
    writes: list[str] = field(default_factory=list)
    version: int = 100
    generation: int | None = None
    events: list[tuple[Mapping[str, Any], Transition]] = field(default_factory=list)

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        return self.unlabelled if resource is DEPLOYMENTS else None

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        kind = resource_of(manifest).kind
        meta = {"uid": f"uid-{kind}", **self._write(kind)}
        return {**manifest, "metadata": {**manifest["metadata"], **meta}}

    async def apply_status(self, raw: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        meta = {**raw["metadata"], **self._write("status")}
        meta["generation"] = self.generation or meta["generation"]
        return {**raw, "status": status, "metadata": meta}

    def _write(self, what: str) -> dict[str, str]:
        if what in self.errors:
            raise self.errors[what]
        self.writes.append(what)
        self.version += 1
        return {"resourceVersion": str(self.version)}


def world_with(cluster: FakeCluster, kind: kube.Kind = kube.MODELWORKER, **meta: Any) -> World:
    store = Store()
    scoring = {"scoring": {"type": "Outcome"}} if kind == kube.REWARDMODEL else {}
    store.put(
        OWNERS[kind],
        {
            "apiVersion": kube.API_VERSION,
            "kind": kind.kind,
            "metadata": {
                "name": "one",
                "namespace": "ns",
                "uid": "uid-one",
                "resourceVersion": "1",
                "generation": 1,
                **meta,
            },
            "spec": {"model": {"source": {"hostPath": {"path": "/m"}}}, **scoring},
        },
    )
    return World(
        store=store,
        cluster=cast("Any", cluster),
        config=Config(),
        send_events=lambda about, found: cluster.events.extend((about, one) for one in found),
        beats=lambda _: {},
        in_grace=lambda: False,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )


def run(world: World) -> bool:
    return asyncio.run(reconcile(KEY, world))


def accepted(world: World) -> dict[str, Any]:
    entry = world.store.get(MODELWORKERS, "ns", "one")
    assert entry is not None
    conditions = entry.load()["status"]["conditions"]
    return next(dict(one) for one in conditions if one["type"] == "Accepted")


def observed_generation(world: World) -> int | None:
    entry = world.store.get(MODELWORKERS, "ns", "one")
    assert entry is not None
    found: int | None = entry.load()["status"].get("observedGeneration")
    return found


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.kind) for kind in kube.KINDS])
def test_first_pass_writes_everything_in_order_and_the_second_nothing(kind: kube.Kind) -> None:
    cluster = FakeCluster()
    world = world_with(cluster, kind)
    key = Key(kind, "ns", "one")
    assert asyncio.run(reconcile(key, world))
    assert cluster.writes == ["Deployment", "Service", "status"]
    assert {(about["uid"], about["kind"]) for about, _ in cluster.events} == {
        ("uid-one", kind.kind)
    }
    entry = world.store.get(OWNERS[kind], "ns", "one")
    assert entry is not None
    assert entry.load()["status"]["observedGeneration"] == 1
    assert world.store.get(DEPLOYMENTS, "ns", f"{kind.short}-one") is not None
    cluster.writes.clear()
    assert asyncio.run(reconcile(key, world))
    assert cluster.writes == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(ApplyForbidden("no right"), kube.Reason.APPLY_FORBIDDEN, id="forbidden"),
        pytest.param(ApplyRejected("bad field"), kube.Reason.APPLY_REJECTED, id="rejected"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_refused_child_is_told_in_the_status_and_tried_again(
    error: OperatorError, reason: kube.Reason, kind: str
) -> None:
    world = world_with(FakeCluster({kind: error}))
    assert run(world) is False
    assert accepted(world)["reason"] == reason
    assert str(error) in accepted(world)["message"]
    assert observed_generation(world) is None


@pytest.mark.parametrize(
    ("errors", "settled", "writes"),
    [
        pytest.param({"Deployment": ClusterUnavailable("503")}, False, [], id="unavailable"),
        pytest.param({"Service": NotLeading("no lease")}, False, ["Deployment"], id="not-leading"),
        pytest.param({"Deployment": NotFound("namespace")}, True, [], id="namespace-gone"),
        pytest.param(
            {"status": NotFound("object")}, True, ["Deployment", "Service"], id="object-gone"
        ),
        pytest.param(
            {"status": ApplyForbidden("no right")},
            False,
            ["Deployment", "Service"],
            id="status-forbidden",
        ),
    ],
)
def test_errors_that_leave_the_status_untouched(
    errors: dict[str, OperatorError], settled: bool, writes: list[str]
) -> None:
    cluster = FakeCluster(errors)
    world = world_with(cluster)
    assert run(world) is settled
    assert (cluster.writes, cluster.events) == (writes, [])
    entry = world.store.get(MODELWORKERS, "ns", "one")
    assert entry is not None
    assert "status" not in entry.load()


def test_spec_that_changed_during_the_pass_is_not_lost() -> None:
    world = world_with(FakeCluster(generation=2))
    assert run(world) is False


def test_child_of_somebody_else_is_left_alone() -> None:
    stranger = {"metadata": {"name": "mw-one", "namespace": "ns", "uid": "x"}, "spec": {}}
    cluster = FakeCluster(unlabelled=stranger)
    world = world_with(cluster)
    assert run(world) is False
    assert "Deployment" not in cluster.writes
    assert accepted(world)["reason"] == kube.Reason.CHILD_CONFLICT


def test_invalid_spec_is_told_once_and_not_tried_again() -> None:
    cluster = FakeCluster()
    world = world_with(cluster)
    world.store.put(
        MODELWORKERS,
        {
            "apiVersion": kube.API_VERSION,
            "kind": "ModelWorker",
            "metadata": {
                "name": "one",
                "namespace": "ns",
                "uid": "uid-one",
                "resourceVersion": "2",
                "generation": 2,
            },
            "spec": {},
        },
    )
    assert run(world)
    assert cluster.writes[0] == "status"
    assert accepted(world)["reason"] == kube.Reason.INVALID_SPEC
    cluster.writes.clear()
    assert run(world)
    assert cluster.writes == []


@pytest.mark.parametrize("gone", ["unknown", "being-deleted"])
def test_deleted_object_is_left_to_the_garbage_collector(gone: str) -> None:
    cluster = FakeCluster()
    world = world_with(cluster, deletionTimestamp="2026-01-01T00:00:00Z")
    key = KEY if gone == "being-deleted" else Key(kube.MODELWORKER, "ns", "other")
    assert asyncio.run(reconcile(key, world))
    assert cluster.writes == []
