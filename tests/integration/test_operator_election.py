"""Two operators and one lease."""

import signal
import time
from collections.abc import Iterator

import pytest

from modelworker_devcluster import DevCluster
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds
from tests.support import eventually


@pytest.fixture
def objects(control_plane: DevCluster, control_plane_namespace: str) -> Objects:
    install_crds(control_plane)
    return Objects(control_plane, control_plane_namespace)


@pytest.fixture
def pair(objects: Objects) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """The leader, and the one that stands by; both want the same heartbeat port."""
    first = OperatorProcess(objects.cluster, objects.namespace, "first")
    second = None
    try:
        first.wait_leading()
        second = OperatorProcess(
            objects.cluster, objects.namespace, "second", heartbeat_port=first.heartbeat_port
        )
        eventually(lambda: second.get("/readyz").text == "standing by\n", what="a standby")
        eventually(lambda: "standing by" in second.log.read_text(), what="a standby that waits")
        yield first, second
    finally:
        first.stop()
        if second:
            second.stop()


def seconds_until_leading(process: OperatorProcess, timeout: float) -> float:
    began = time.monotonic()
    process.wait_leading(timeout)
    return time.monotonic() - began


def test_only_the_leader_writes(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    audit = Audit(objects.cluster)
    objects.apply_worker("lead")
    objects.wait_children("lead")
    objects.wait_reconciled("lead")
    assert audit.brief("first")
    assert audit.brief("second") == []


def test_killed_leader_is_followed_within_17_seconds(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    first.kill()
    assert seconds_until_leading(second, 25) <= 17.5
    objects.apply_worker("taken-over")
    objects.wait_children("taken-over", timeout=5)


def test_terminated_leader_is_followed_within_3_seconds(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    began = time.monotonic()
    first.process.terminate()
    second.wait_leading(20)
    took = time.monotonic() - began
    assert first.wait_ended(5) == 0, first.log.read_text()
    ended = time.monotonic() - began
    assert took <= 3
    assert ended <= 3
    objects.apply_worker("handed-over")
    objects.wait_children("handed-over", timeout=5)


def test_stopped_leader_writes_nothing_when_it_goes_on(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    objects.apply_worker("paused")
    objects.wait_children("paused")
    objects.wait_reconciled("paused")
    first.process.send_signal(signal.SIGSTOP)
    eventually(
        lambda: "held by this process" in second.log.read_text(), timeout=25, what="a new leader"
    )
    audit = Audit(objects.cluster)
    # Work for the old leader too: it finds these changes as soon as it goes on.
    objects.kubectl("delete", "service", "mw-paused")
    objects.apply_worker("paused", replicas=2)
    objects.wait_children("paused", timeout=10)
    first.process.send_signal(signal.SIGCONT)
    assert first.wait_ended(15) == 4, first.log.read_text()
    assert audit.brief("first") == []
    assert audit.brief("second")
    second.wait_leading()


def test_reconciling_never_overlaps(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    audit = Audit(objects.cluster)
    for number in range(5):
        objects.apply_worker(f"many-{number}")
    first.process.terminate()
    for number in range(5, 10):
        objects.apply_worker(f"many-{number}")
    for number in range(10):
        # Who follows, not how soon, is the matter here: a lease can have to run out.
        objects.wait_children(f"many-{number}", timeout=40)
    writes = audit.writes("modelworker-operator")
    agents = ["first" if "(first)" in write["userAgent"] else "second" for write in writes]
    order = sorted(
        zip((write["requestReceivedTimestamp"] for write in writes), agents, strict=True)
    )
    turns = [agent for _, agent in order]
    assert turns == sorted(turns)  # All of the first one's, then all of the second one's.
    assert second.leads()
