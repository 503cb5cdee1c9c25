"""Small parts of the process kubelet: back-off, GPUs, addresses, volumes, probes, claims."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelworker_devcluster.kubelet import provisioner
from modelworker_devcluster.kubelet.addresses import Addresses, NoFreeAddress
from modelworker_devcluster.kubelet.api import Gone
from modelworker_devcluster.kubelet.backoff import Backoff
from modelworker_devcluster.kubelet.environment import Facts
from modelworker_devcluster.kubelet.events import Events
from modelworker_devcluster.kubelet.gpus import Gpus, NoFreeGpu
from modelworker_devcluster.kubelet.probes import Verdict
from modelworker_devcluster.kubelet.tokens import refresh_time
from modelworker_devcluster.kubelet.volume_data import File, MountError, decoded, key_files
from modelworker_devcluster.kubelet.volumes import Volumes, write_files
from modelworker_devcluster.kubelet.watch import Changed, Deleted, Listed, follow

Object = dict[str, Any]


def test_backoff_doubles_up_to_its_cap() -> None:
    backoff, delays = Backoff(), []
    for _ in range(8):
        backoff = backoff.failed(ran_seconds=1)
        delays.append(backoff.delay)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_backoff_forgives_after_good_times() -> None:
    backoff = Backoff(failures=7).failed(ran_seconds=600)
    assert backoff.delay == 0


def test_backoff_never_overflows() -> None:
    assert Backoff(failures=10**6).delay == 300


def gpu_pod(uid: str, *late: int, early: tuple[int, ...] = ()) -> Object:
    def containers(name: str, wanted: tuple[int, ...]) -> list[Object]:
        return [
            {"name": f"{name}{at}", "resources": {"limits": {"nvidia.com/gpu": str(number)}}}
            for at, number in enumerate(wanted)
        ]

    spec = {"containers": containers("c", late), "initContainers": containers("i", early)}
    return {"metadata": {"uid": uid}, "spec": spec}


def test_gpus_are_exclusive_and_come_back() -> None:
    gpus = Gpus(3)
    assert gpus.allocate(gpu_pod("a", 1, 1)) == {"c0": (0,), "c1": (1,)}
    assert gpus.allocate(gpu_pod("b", 1)) == {"c0": (2,)}
    with pytest.raises(NoFreeGpu, match="Requested: 1, Available: 0"):
        gpus.allocate(gpu_pod("c", 1))
    gpus.release("a")
    assert gpus.allocate(gpu_pod("d", 2)) == {"c0": (0, 1)}


def test_init_containers_use_the_gpus_of_those_after_them() -> None:
    gpus = Gpus(2)
    assert gpus.allocate(gpu_pod("a", 1, early=(2, 1))) == {"i0": (0, 1), "i1": (0,), "c0": (0,)}


def test_pod_without_gpus_gets_none() -> None:
    pod: Object = {"metadata": {"uid": "a"}, "spec": {"containers": [{"name": "c"}]}}
    assert Gpus(2).allocate(pod) == {"c": ()}


def test_two_kubelets_share_no_block_and_addresses_come_back_last() -> None:
    one, other = Addresses(), Addresses()
    try:
        assert one.block != other.block
        first, second = one.take(), one.take()
        assert first != second
        one.release(first)
        assert one.take() not in {first, second}
    finally:
        one.close()
        other.close()


def test_addresses_run_out_with_a_message() -> None:
    addresses = Addresses()
    try:
        assert len({addresses.take() for _ in range(254)}) == 254
        with pytest.raises(NoFreeAddress, match="delete finished pods"):
            addresses.take()
    finally:
        addresses.close()


@pytest.mark.parametrize(
    ("start", "answers", "good"),
    [
        pytest.param(False, [True], False, id="one-of-two-successes"),
        pytest.param(False, [True, True], True, id="two-successes"),
        pytest.param(False, [True, False, True], False, id="interrupted"),
        pytest.param(True, [False, False], True, id="two-of-three-failures"),
        pytest.param(True, [False, False, False], False, id="three-failures"),
        pytest.param(True, [False, False, True, False, False], True, id="recovered"),
    ],
)
def test_verdict(start: bool, answers: list[bool], good: bool) -> None:
    verdict = Verdict(start)
    for answer in answers:
        verdict = verdict.after(answer, success_threshold=2, failure_threshold=3)
    assert verdict.good is good


DATA = {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("source", "files"),
    [
        pytest.param({}, (File("a", b"1", 0o644), File("b", b"2", 0o644)), id="all"),
        pytest.param(
            {"items": [{"key": "b", "path": "x/y", "mode": 0o600}]},
            (File("x/y", b"2", 0o600),),
            id="item",
        ),
        pytest.param(
            {"optional": True, "items": [{"key": "no", "path": "x"}]}, (), id="optional-item"
        ),
    ],
)
def test_key_files(source: Object, files: tuple[File, ...]) -> None:
    assert key_files(source, DATA, name='configmap "cm"', mode=0o644) == files


def test_missing_key_is_named() -> None:
    source = {"items": [{"key": "no", "path": "x"}]}
    with pytest.raises(MountError, match='configmap "cm" references non-existent key: no'):
        key_files(source, DATA, name='configmap "cm"', mode=0o644)


def test_decoded() -> None:
    encoded = base64.b64encode(b"\xff").decode()
    config_map = {"data": {"t": "text"}, "binaryData": {"b": encoded}}
    assert decoded("configmap", config_map) == {"t": b"text", "b": b"\xff"}
    assert decoded("secret", {"data": {"b": encoded}}) == {"b": b"\xff"}


def test_written_files_are_these_and_no_others(tmp_path: Path) -> None:
    write_files(tmp_path, [File("a", b"1", 0o644), File("deep/b", b"2", 0o600)])
    write_files(tmp_path, [File("a", b"new", 0o400)])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a"}
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400


def test_token_is_renewed_at_80_percent_of_its_life() -> None:
    issued, expires = (datetime(2030, 1, 1, hour, tzinfo=UTC) for hour in (0, 10))
    assert refresh_time(issued, expires) == datetime(2030, 1, 1, 8, tzinfo=UTC)


class TokenApi:
    """Issues numbered tokens that live for ten hours."""

    def __init__(self) -> None:
        self.requests: list[Object] = []

    async def create(self, path: str, body: Object) -> Object:
        self.requests.append(body["spec"])
        hour = 10 * len(self.requests)
        expires = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        token = f"token-{len(self.requests)}"
        return {"status": {"token": token, "expirationTimestamp": expires.isoformat()}}


def test_token_file_is_replaced_only_when_it_is_time(tmp_path: Path) -> None:
    projection = {"serviceAccountToken": {"audience": "a", "expirationSeconds": 36000, "path": "t"}}
    pod: Object = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"volumes": [{"name": "v", "projected": {"sources": [projection]}}]},
    }
    api, hour = TokenApi(), 0
    start = datetime(2030, 1, 1, tzinfo=UTC)
    facts = Facts(pod, "127.0.0.2", "node", {})
    volumes = Volumes(api, facts, tmp_path, lambda: start + timedelta(hours=hour))  # type: ignore[arg-type]
    seen = []
    for hour in (0, 7, 8, 9):  # noqa: B007 - the clock reads it
        asyncio.run(volumes.set_up())
        seen.append((tmp_path / "v/t").read_text())
    assert seen == ["token-1", "token-1", "token-2", "token-2"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    assert api.requests[0] == {
        "audiences": ["a"],
        "expirationSeconds": 36000,
        "boundObjectRef": bound,
    }


class EventApi:
    """Remembers the events that were created."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    async def create(self, path: str, body: Object) -> Object:
        self.messages.append(body["message"])
        return body


def test_event_is_sent_once_until_something_else_is_said() -> None:
    api = EventApi()
    events = Events(api, "node", lambda: datetime(2030, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    subject = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}}

    async def scenario() -> None:
        for message in ("a", "a", "b", "a"):
            await events.warn(subject, "Reason", message)
        events.forget(subject)
        await events.warn(subject, "Reason", "a")

    asyncio.run(scenario())
    assert api.messages == ["a", "b", "a", "a"]


def claim(**spec: Any) -> Object:
    return {
        "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
        "spec": {
            "storageClassName": "devcluster",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        | spec,
        "status": {"phase": "Pending"},
    }


@pytest.mark.parametrize(
    ("subject", "wants"),
    [
        pytest.param(claim(), True, id="pending"),
        pytest.param(claim(storageClassName="other"), False, id="other-class"),
        pytest.param(claim(volumeName="v"), False, id="has-one"),
        pytest.param(claim() | {"status": {"phase": "Bound"}}, False, id="bound"),
    ],
)
def test_wants_volume(subject: Object, wants: bool) -> None:
    assert provisioner.wants_volume(subject) is wants


@pytest.mark.parametrize(
    ("subject", "refused"),
    [
        pytest.param(claim(), [], id="plain"),
        pytest.param(claim(volumeMode="Block"), ["spec.volumeMode=Block"], id="block"),
        pytest.param(claim(dataSource={"name": "s"}), ["spec.dataSource"], id="clone"),
    ],
)
def test_claim_refusals(subject: Object, refused: list[str]) -> None:
    assert provisioner.refusals(subject) == refused


def test_volume_is_bound_to_its_claim(tmp_path: Path) -> None:
    spec = provisioner.volume_for(claim(), tmp_path)["spec"]
    assert spec["hostPath"]["path"] == str(tmp_path)
    assert spec["claimRef"]["uid"] == "u"
    assert spec["persistentVolumeReclaimPolicy"] == "Delete"


class FakeApi:
    """Answers a list and the watches after it from a script."""

    def __init__(self, *watches: list[Object] | Exception) -> None:
        self._watches = list(watches)
        self.asked: list[str] = []

    async def get(self, path: str, **query: str) -> Object:
        self.asked.append("list")
        return {"items": [{"name": "a"}], "metadata": {"resourceVersion": "1"}}

    async def watch(self, path: str, *, resourceVersion: str) -> Any:  # noqa: N803
        self.asked.append(resourceVersion)
        script = self._watches.pop(0)
        if isinstance(script, Exception):
            raise script
        for event in script:
            yield event


def event(kind: str, version: str) -> Object:
    return {"type": kind, "object": {"metadata": {"resourceVersion": version}}}


def test_follow_resumes_and_lists_again_when_history_is_gone() -> None:
    api = FakeApi(
        [event("ADDED", "2"), event("BOOKMARK", "5")],
        [event("DELETED", "6")],
        Gone("too old"),
        [event("MODIFIED", "9")],
    )

    async def collect() -> list[type]:
        seen: list[type] = []
        async for one in follow(api, "/things"):  # type: ignore[arg-type]
            seen.append(type(one))
            if len(seen) == 5:
                break
        return seen

    assert asyncio.run(collect()) == [Listed, Changed, Deleted, Listed, Changed]
    assert api.asked == ["list", "1", "5", "6", "list", "1"]
