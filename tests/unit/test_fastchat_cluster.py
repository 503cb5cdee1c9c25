"""What the controller makes of the operator's view of the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelworker_api import kube, wire
from modelworker_api.fastchat import WorkerStatus
from modelworker_operator.controller.external import Externals
from modelworker_operator.controller.protocol import Controller
from modelworker_operator.controller.workers import ClusterModels
from modelworker_operator.heartbeats import Registry
from modelworker_operator.resources import MODELWORKERS, PODS, REWARDMODELS
from modelworker_operator.store import Key, Store
from tests.operator_objects import pod, raw_modelworker, raw_rewardmodel


@dataclass
class Scene:
    """A store with heartbeats, and what the controller makes of it."""

    namespaces: tuple[str, ...] = ()
    now: float = 0.0
    store: Store = field(default_factory=Store)
    registry: Registry = field(default_factory=Registry)

    def __post_init__(self) -> None:
        models = ClusterModels(self.store, self._beats, self.namespaces)
        externals = Externals((), no_probe, lambda: self.now)
        self.controller = Controller(models, externals)

    def _beats(self, uids: Any) -> Mapping[str, tuple[wire.Heartbeat, float]]:
        return self.registry.beats(uids, self.now)

    def put(
        self,
        name: str,
        *pods: dict[str, Any],
        namespace: str = "ns",
        kind: kube.Kind = kube.MODELWORKER,
        version: int = 1,
        **spec: Any,
    ) -> None:
        """An object with its pods."""
        reward = kind == kube.REWARDMODEL
        raw = raw_rewardmodel(**spec) if reward else raw_modelworker(**spec)
        uid = f"{kind.short}-{namespace}-{name}"
        meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
        self.store.put(REWARDMODELS if reward else MODELWORKERS, {**raw, "metadata": meta})
        labels = {kube.LABEL_KIND: kind.kind, kube.LABEL_NAME: name}
        for one in pods:
            more = {"namespace": namespace, "labels": labels, "resourceVersion": str(version)}
            self.store.put(PODS, {**one, "metadata": {**one["metadata"], **more}})

    def beat(self, uid: str, state: wire.LoadState = wire.LoadState.READY, **load: Any) -> None:
        self.registry.record(
            uid,
            Key(kube.MODELWORKER, "ns", "smol"),
            wire.Heartbeat(state=state, **load),
            now=self.now,
            stale_after=45,
        )


def ready(name: str = "mw-smol-1-a", ip: str = "10.0.0.1", **fields: Any) -> dict[str, Any]:
    return pod(name, ready=True, ip=ip, owner=name[:-2], **fields)


async def no_probe(_: str) -> WorkerStatus | None:
    raise AssertionError("nobody is to be asked")


def test_a_ready_worker_is_found_under_each_name() -> None:
    scene = Scene()
    assert scene.controller.models() == []
    scene.put("smol", ready(), model={"name": "org/smol", "source": {"hostPath": {"path": "/m"}}})
    assert scene.controller.models() == ["ns/smol", "org/smol", "smol"]
    for name in scene.controller.models():
        assert scene.controller.address(name) == "http://10.0.0.1:8000"
    assert scene.controller.address("other") == scene.controller.address("") == ""


@pytest.mark.parametrize(
    "absent",
    [
        pytest.param(pod(ready=False), id="not-ready"),
        pytest.param(ready(deleted=True), id="being-deleted"),
        pytest.param(ready(ip=None), id="no-address"),  # type: ignore[arg-type]
        pytest.param(ready("other-1-a"), id="of-another-deployment"),
    ],
)
def test_who_is_no_worker(absent: dict[str, Any]) -> None:
    scene = Scene()
    scene.put("smol", absent)
    assert scene.controller.models() == []
    assert scene.controller.address("smol") == ""


def test_a_worker_that_says_it_drains_is_left_alone() -> None:
    scene = Scene()
    scene.put("smol", ready())
    scene.beat("uid-mw-smol-1-a", wire.LoadState.DRAINING)
    assert scene.controller.address("smol") == ""


def test_an_address_with_colons_gets_brackets() -> None:
    scene = Scene()
    scene.put("smol", ready(ip="fd00::1"))
    assert scene.controller.address("smol") == "http://[fd00::1]:8000"


def test_the_shortest_queue_by_heartbeats_and_what_was_given_since() -> None:
    scene = Scene()
    scene.put("smol", ready("mw-smol-1-a", "10.0.0.1"), ready("mw-smol-1-b", "10.0.0.2"))
    scene.beat("uid-mw-smol-1-a", running=2, waiting=1)
    scene.beat("uid-mw-smol-1-b", running=1)

    def hosts(count: int) -> list[str]:
        return [scene.controller.address("smol")[7:15] for _ in range(count)]

    assert hosts(4) == ["10.0.0.2", "10.0.0.2", "10.0.0.1", "10.0.0.2"]
    assert scene.controller.status() == WorkerStatus(
        model_names=["ns/smol", "smol"], speed=2, queue_length=8
    )
    scene.beat("uid-mw-smol-1-b", running=9)
    assert hosts(3) == ["10.0.0.1"] * 3
    assert scene.controller.status().queue_length == 4 + 3 + 9


def test_a_worker_that_fell_silent_is_the_last_choice() -> None:
    scene = Scene()
    scene.put("smol", ready("mw-smol-1-a", "10.0.0.1"), ready("mw-smol-1-b", "10.0.0.2"))
    scene.beat("uid-mw-smol-1-a")
    scene.now = 60.0
    for one in ("b", "other"):
        scene.beat(f"uid-mw-smol-1-{one}", running=5)
    assert scene.registry.sweep(scene.now).changed
    assert scene.controller.address("smol") == "http://10.0.0.2:8000"


def test_a_new_state_of_an_object_is_seen() -> None:
    scene = Scene()
    scene.put("smol", ready())
    assert scene.controller.address("new") == ""
    named = {"name": "new", "source": {"hostPath": {"path": "/m"}}}
    scene.put("smol", ready(ip="10.0.0.7"), version=2, model=named)
    assert scene.controller.address("new") == "http://10.0.0.7:8000"
    scene.store.discard(
        PODS, {"metadata": {**ready()["metadata"], "resourceVersion": "3", "labels": {}}}
    )
    assert scene.controller.models() == []


def test_an_object_that_cannot_be_read_still_has_its_name() -> None:
    scene = Scene()
    scene.put("smol", ready(), replicas="many")
    assert scene.controller.models() == ["ns/smol", "smol"]


def test_tenants_and_kinds_are_kept_apart(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.put("smol", ready())
    scene.put("smol", ready("mw-smol-2-a", "10.0.0.2"), namespace="b")
    judge = ready("rwm-judge-1-a", "10.0.0.3")
    scene.put("judge", judge, kind=kube.REWARDMODEL)
    assert scene.controller.models() == ["b/smol", "judge", "ns/judge", "ns/smol"]
    assert scene.controller.address("smol") == scene.controller.address("smol") == ""
    assert len([one for one in caplog.records if "NAMESPACE/NAME" in one.getMessage()]) == 1
    assert scene.controller.address("b/smol") == "http://10.0.0.2:8000"
    assert scene.controller.address("judge") == "http://10.0.0.3:8000"


def test_the_namespaces_can_be_limited() -> None:
    scene = Scene(namespaces=("b",))
    scene.put("smol", ready())
    scene.put("smol", ready("mw-smol-2-a", "10.0.0.2"), namespace="b")
    assert scene.controller.models() == ["b/smol", "smol"]
    assert scene.controller.address("ns/smol") == ""
    assert scene.controller.address("smol") == "http://10.0.0.2:8000"
