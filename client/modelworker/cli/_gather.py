"""Reads what the commands show: objects, their pods, their Events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelworker.cli._cluster import Cluster, Target, core_path, objects_path
from modelworker.cli._facts import Facts, facts_of, selector
from modelworker.cli._failures import Failure, Refused
from modelworker.cli._names import chosen, ref_of
from modelworker_api import kube

_MOST_EVENTS: Final = "1000"
_EVENTS: Final = "/apis/events.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Gathered:
    """Objects as they are now, and what could not be looked at."""

    facts: tuple[Facts, ...]
    blind: tuple[str, ...] = ()


def place_of(cluster: Cluster, target: Target) -> str | None:
    """The namespace to look in; None for all."""
    return None if target.everywhere else cluster.namespace


def bodies(
    cluster: Cluster, target: Target, names: Iterable[str] = (), labels: str | None = None
) -> list[Mapping[str, Any]]:
    """The objects that are named, or all.

    Raises:
        Failure: if a name has no object, or the cluster cannot be read.
    """
    refs = [ref_of(word) for word in names]
    wanted = {kind for ref in refs for kind in ref.kinds} or set(kube.KINDS)
    found: list[Mapping[str, Any]] = []
    for kind in kube.KINDS:
        if kind in wanted:
            found += listed(cluster, kind, place_of(cluster, target), labels)
    return chosen(found, refs, place_of(cluster, target))


def listed(
    cluster: Cluster, kind: kube.Kind, namespace: str | None, labels: str | None = None
) -> list[Mapping[str, Any]]:
    """Every object of a kind, each with its kind.

    Raises:
        Failure: if they cannot be read, or the cluster does not know the kind.
    """
    query = {"labelSelector": labels} if labels else {}
    try:
        listing = cluster.get(objects_path(kind, namespace), **query)
    except Refused as error:
        if error.absent:
            raise Failure(
                f"the cluster {cluster.server} does not know the kind {kind.kind}: install the "
                "chart, or the CRDs with `kubectl apply -f crds/`"
            ) from error
        raise
    return [{"kind": kind.kind, **item} for item in listing["items"]]


def gather(
    cluster: Cluster,
    target: Target,
    names: Sequence[str] = (),
    labels: str | None = None,
    *,
    events: bool = True,
) -> Gathered:
    """The objects with their pods and Events; what may not be read is left out and said.

    Raises:
        Failure: if a name has no object, or the objects cannot be read.
    """
    found = bodies(cluster, target, names, labels)
    blind: list[str] = []

    def tried(what: str, read: Callable[[], Any]) -> Any:
        try:
            return read()["items"]
        except Refused as error:
            if not error.denied:
                raise
            blind.append(f"{what} cannot be looked at: {error.said}")
            return []

    place = place_of(cluster, target)
    pods = happened = []
    if found:
        pods = tried(
            "pods", lambda: cluster.get(core_path("pods", place), labelSelector=selector())
        )
        if events:
            where = f"/namespaces/{place}" if place else ""
            path = f"{_EVENTS}{where}/events"
            happened = tried("events", lambda: cluster.get(path, limit=_MOST_EVENTS))
    return Gathered(
        tuple(facts_of(body, _of(body, pods), _of(body, happened)) for body in found),
        tuple(blind),
    )


def _of(body: Mapping[str, Any], things: Iterable[Any]) -> list[Any]:
    """The things of the body's namespace."""
    namespace = body["metadata"].get("namespace")
    return [one for one in things if one["metadata"].get("namespace") == namespace]
