"""The store: newest state wins, deletions are not undone by late answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_api import kube
from modelworker_operator.resources import (
    DEPLOYMENTS,
    MODELWORKERS,
    PODS,
    REWARDMODELS,
    Resource,
    resource_of,
)
from modelworker_operator.store import Key, Store, owner_of

OWNER = Key(kube.MODELWORKER, "ns", "one")
LABELS = {
    "app.kubernetes.io/managed-by": "modelworker",
    "modelworker.dev/kind": "ModelWorker",
    "modelworker.dev/name": "one",
}


def child(
    version: int, *, name: str = "mw-one", uid: str = "u1", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": LABELS if labels is None else labels,
            "managedFields": [{"manager": "me"}],
        },
        "spec": {"replicas": version},
    }


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (MODELWORKERS, "/apis/modelworker.dev/v1alpha1/namespaces/ns/modelworkers/one/status"),
        (REWARDMODELS, "/apis/modelworker.dev/v1alpha1/namespaces/ns/rewardmodels/one/status"),
        (DEPLOYMENTS, "/apis/apps/v1/namespaces/ns/deployments/one/status"),
        (PODS, "/api/v1/namespaces/ns/pods/one/status"),
    ],
)
def test_paths(resource: Resource, path: str) -> None:
    assert resource.path("ns", "one", "status") == path
    assert resource_of({"kind": resource.kind}) is resource


@pytest.mark.parametrize(
    ("versions", "kept"),
    [
        pytest.param([1, 2], 2, id="newer-wins"),
        pytest.param([2, 1], 2, id="older-is-ignored"),
        pytest.param([9, 10], 10, id="versions-are-numbers"),
    ],
)
def test_newest_version_is_kept(versions: list[int], kept: int) -> None:
    store = Store()
    for version in versions:
        store.put(DEPLOYMENTS, child(version))
    entry = store.get(DEPLOYMENTS, "ns", "mw-one")
    assert entry is not None
    assert (entry.version, entry.load()["spec"]) == (kept, {"replicas": kept})


def test_put_names_the_owner_only_when_something_changed() -> None:
    store = Store()
    assert store.put(DEPLOYMENTS, child(5)) == (OWNER,)
    assert store.put(DEPLOYMENTS, child(5)) == ()
    assert store.put(DEPLOYMENTS, child(6, labels={})) == (OWNER,)  # It lost its child.
    assert store.children(OWNER, DEPLOYMENTS) == ()


def test_what_no_pass_reads_is_not_kept() -> None:
    store = Store()
    store.put(DEPLOYMENTS, child(1))
    store.put(PODS, child(1))
    deployment, pod = (store.get(kind, "ns", "mw-one") for kind in (DEPLOYMENTS, PODS))
    assert deployment is not None
    assert pod is not None
    assert "managedFields" not in deployment.text
    assert "spec" not in pod.load()


def test_late_answer_does_not_bring_a_deleted_object_back() -> None:
    store = Store()
    store.put(DEPLOYMENTS, child(1))
    assert store.discard(DEPLOYMENTS, child(7)) == (OWNER,)
    assert store.put(DEPLOYMENTS, child(6)) == ()
    assert store.get(DEPLOYMENTS, "ns", "mw-one") is None
    # It left the selector rather than the cluster, and came back by a newer write.
    assert store.put(DEPLOYMENTS, child(8)) == (OWNER,)


def test_deletion_of_an_earlier_object_of_the_name_is_ignored() -> None:
    store = Store()
    store.put(DEPLOYMENTS, child(9, uid="new"))
    store.discard(DEPLOYMENTS, child(8, uid="old"))
    assert store.get(DEPLOYMENTS, "ns", "mw-one") is not None


def test_a_list_finds_what_is_gone_and_what_is_missing() -> None:
    store = Store()
    store.put(PODS, child(1, name="a", uid="a"))
    store.put(PODS, child(9, name="b", uid="b"))
    gone = store.prune(PODS, {}, 5)  # "b" is younger than the list.
    assert [entry.uid for entry in gone] == ["a"]
    assert [entry.uid for entry in store.children(OWNER, PODS)] == ["b"]
    assert store.lacks(PODS, {"b": 9}) == 0
    assert store.lacks(PODS, {"b": 10, "c": 3}) == 2
    assert store.lacks(PODS, {"a": 1}) == 0  # Known to be gone.


@pytest.mark.parametrize(
    ("resource", "labels", "owner"),
    [
        pytest.param(PODS, LABELS, OWNER, id="child"),
        pytest.param(
            PODS,
            {**LABELS, "modelworker.dev/kind": "RewardModel"},
            Key(kube.REWARDMODEL, "ns", "one"),
            id="child-of-the-other-kind",
        ),
        pytest.param(PODS, {}, None, id="stranger"),
        pytest.param(PODS, {**LABELS, "modelworker.dev/kind": "Other"}, None, id="unknown-kind"),
        pytest.param(MODELWORKERS, {}, Key(kube.MODELWORKER, "ns", "mw-one"), id="object"),
        pytest.param(REWARDMODELS, {}, Key(kube.REWARDMODEL, "ns", "mw-one"), id="reward-object"),
    ],
)
def test_owner(resource: Resource, labels: dict[str, str], owner: Key | None) -> None:
    assert owner_of(resource, child(1, labels=labels)) == owner


def test_objects_of_one_name_and_two_kinds_are_two() -> None:
    store = Store()
    store.put(MODELWORKERS, child(1, name="one", uid="a"))
    store.put(REWARDMODELS, child(2, name="one", uid="b"))
    store.put(PODS, child(3, name="p", uid="p"))
    reward = Key(kube.REWARDMODEL, "ns", "one")
    assert set(store.objects()) == {OWNER, reward}
    assert [entry.uid for entry in store.children(OWNER, PODS)] == ["p"]
    assert store.children(reward, PODS) == ()
    assert str(reward) == "RewardModel ns/one"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(1, 20)), max_size=40))
def test_any_order_of_events_ends_with_the_newest(events: list[tuple[bool, str, int]]) -> None:
    """Deletion at a version beats every put at that version or before, in any order."""
    store = Store()
    for is_put, uid, version in events:
        (store.put if is_put else store.discard)(PODS, child(version, name=uid, uid=uid))
    for uid in "abc":
        entry = store.get(PODS, "ns", uid)
        if entry is not None:
            last = max(
                (at for at, (put, who, _) in enumerate(events) if not put and who == uid),
                default=-1,
            )
            assert any(
                put and who == uid and version == entry.version
                for put, who, version in events[last + 1 :]
            )
        assert len(store.children(OWNER, PODS)) <= 3
