"""The operator's view of the cluster: the newest known state of every watched object.

Objects are kept as compact JSON text, a tenth of what they take as Python objects.
"""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator.resources import OWNERS, PODS, Resource

_REMEMBERED_DELETIONS: Final = 8192
_KIND_OF: Final = {resource: kind for kind, resource in OWNERS.items()}
_BY_LABEL: Final = {kind.kind: kind for kind in kube.KINDS}


@dataclass(frozen=True, slots=True)
class Key:
    """Names one custom resource: what the queue holds and a pass works on."""

    kind: kube.Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: `version` is its resourceVersion, `owner` the custom resource it belongs to."""

    uid: str
    version: int
    owner: Key | None
    text: str

    def load(self) -> dict[str, Any]:
        """The object, as a fresh copy."""
        loaded: dict[str, Any] = json.loads(self.text)
        return loaded


class Store:
    """Newest state of each object, by kind, namespace and name; children also by owner.

    Both the watches and the answers to the operator's own writes come in here, so that
    no pass decides from a state older than what it wrote itself.
    """

    def __init__(self) -> None:
        self._entries: dict[Resource, dict[tuple[str, str], Entry]] = defaultdict(dict)
        self._children: dict[Key, set[tuple[Resource, str, str]]] = defaultdict(set)
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def put(self, resource: Resource, raw: Mapping[str, Any]) -> tuple[Key, ...]:
        """Keep `raw` unless a newer state is known.

        Returns:
            The custom resources that have to be looked at because of it: the owner, and
            the one before if another took its place; none if nothing changed.
        """
        meta = raw["metadata"]
        uid, version = meta["uid"], int(meta["resourceVersion"])
        place = (meta.get("namespace", ""), meta["name"])
        known = self._entries[resource].get(place)
        if known and known.version >= version:
            return ()
        # The answer to a write may arrive after the watch told of the deletion.
        if self._deleted.get(uid, -1) >= version:
            return ()
        owner = owner_of(resource, raw)
        before = known.owner if known else None
        if before and before != owner:
            self._children[before].discard((resource, *place))
        text = json.dumps(_stripped(resource, raw), separators=(",", ":"))
        self._entries[resource][place] = Entry(uid, version, owner, text)
        if owner and resource not in _KIND_OF:
            self._children[owner].add((resource, *place))
        return tuple(key for key in dict.fromkeys((owner, before)) if key)

    def discard(self, resource: Resource, raw: Mapping[str, Any]) -> tuple[Key, ...]:
        """Forget an object that was deleted in the state `raw`; returns its owners."""
        meta = raw["metadata"]
        self._remember_deletion(meta["uid"], int(meta["resourceVersion"]))
        place = (meta.get("namespace", ""), meta["name"])
        known = self._entries[resource].get(place)
        if known and known.uid == meta["uid"]:
            self._drop(resource, place, known)
        owners = (owner_of(resource, raw), known.owner if known else None)
        return tuple(key for key in dict.fromkeys(owners) if key)

    def get(self, resource: Resource, namespace: str, name: str) -> Entry | None:
        """One object; None if it is not known."""
        return self._entries[resource].get((namespace, name))

    def children(self, owner: Key, resource: Resource) -> tuple[Entry, ...]:
        """The objects of one kind that carry the owner's labels, by name."""
        places = sorted(
            child[1:] for child in self._children.get(owner, ()) if child[0] == resource
        )
        return tuple(self._entries[resource][place] for place in places)

    def objects(self) -> Iterator[Key]:
        """Every custom resource known."""
        for kind, resource in OWNERS.items():
            for namespace, name in list(self._entries[resource]):
                yield Key(kind, namespace, name)

    def lacks(self, resource: Resource, listed: Mapping[str, int]) -> int:
        """How many of the listed objects (uid to version) are not known, or not so new."""
        known = {entry.uid: entry.version for entry in self._entries[resource].values()}
        return sum(
            known.get(uid, self._deleted.get(uid, -1)) < version for uid, version in listed.items()
        )

    def prune(
        self, resource: Resource, listed: Mapping[str, int], version: int
    ) -> tuple[Entry, ...]:
        """Forget and return what a list of all objects, taken at `version`, does not have.

        A watch that had to start over does not tell what was deleted meanwhile.
        """
        entries = self._entries[resource]
        gone = {
            place: entry
            for place, entry in entries.items()
            if entry.uid not in listed and entry.version <= version
        }
        for place, entry in gone.items():
            self._remember_deletion(entry.uid, version)
            self._drop(resource, place, entry)
        return tuple(gone.values())

    def _drop(self, resource: Resource, place: tuple[str, str], entry: Entry) -> None:
        del self._entries[resource][place]
        if entry.owner and entry.owner in self._children:
            self._children[entry.owner].discard((resource, *place))
            if not self._children[entry.owner]:
                del self._children[entry.owner]

    def _remember_deletion(self, uid: str, version: int) -> None:
        self._deleted[uid] = max(version, self._deleted.pop(uid, -1))
        if len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def owner_of(resource: Resource, raw: Mapping[str, Any]) -> Key | None:
    """The custom resource that an object is or, by its labels, belongs to; None if to no kind."""
    meta = raw["metadata"]
    namespace = meta.get("namespace", "")
    if resource in _KIND_OF:
        return Key(_KIND_OF[resource], namespace, meta["name"])
    labels = meta.get("labels") or {}
    kind, name = _BY_LABEL.get(labels.get(kube.LABEL_KIND, "")), labels.get(kube.LABEL_NAME)
    return Key(kind, namespace, name) if kind and name else None


def _stripped(resource: Resource, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what no pass reads."""
    kept = {key: value for key, value in raw.items() if key != "spec" or resource is not PODS}
    kept["metadata"] = {k: v for k, v in raw["metadata"].items() if k != "managedFields"}
    if resource is PODS:
        kept["metadata"].pop("annotations", None)
    return kept
