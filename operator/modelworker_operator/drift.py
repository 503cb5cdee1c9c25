"""Whether a child has to be written again: pure.

A child is compared as a subset: what the server defaulted and what others added is
none of our business, and writes at rest stay at zero. Lists are matched by the same
keys by which server-side apply merges them.
"""

from typing import Any, Final

from modelworker_operator import names
from modelworker_operator.podspec import Manifest
from modelworker_operator.quantities import quantity
from modelworker_operator.spec import Identity

_MERGE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    # One list of each kind of child: in a container and in a Service.
    "ports": ("containerPort", "port", "protocol"),
}
"""Lists that others may add to; every other list is ours as a whole."""

_QUANTITY_MAPS: Final = frozenset({"limits", "requests"})
_QUANTITY_FIELDS: Final = frozenset({"divisor", "sizeLimit"})


def needs_apply(desired: Manifest, live: Manifest | None) -> bool:
    """True if `live` is missing, was applied from another manifest, or lost a field of ours."""
    # Items of a list come without kind and apiVersion: they are no part of the comparison.
    return live is None or not all(
        _covers(live.get(part), desired[part], part) for part in ("metadata", "spec")
    )


def conflicting_owner(worker: Identity, live: Manifest | None) -> str | None:
    """Whose object a child's name is taken by; None if it is free or controlled by `worker`.

    An object without a controller is a conflict too: it is someone's, and never adopted.
    """
    if live is None:
        return None
    controller = names.controller_of(live)
    if controller is None:
        return "an object without a controller"
    if controller.get("uid") == worker.uid:
        return None
    return f"an object of {controller.get('kind')} {controller.get('name')}"


def _covers(live: Any, desired: Any, key: str = "") -> bool:
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            # The API server leaves out this empty map, the only one of ours that can be.
            return key == "matchLabels" and not desired and live is None
        if key in _QUANTITY_MAPS:
            return all(_same_quantity(live.get(k), v) for k, v in desired.items())
        return all(_covers(live.get(k), v, k) for k, v in desired.items())
    if isinstance(desired, list):
        return _covers_list(live or [], desired, key)
    if key in _QUANTITY_FIELDS:
        return _same_quantity(live, desired)
    # Empty strings are left out by the API server.
    return bool(live == desired) or (desired in ("", None) and live in ("", None))


def _covers_list(live: list[Any], desired: list[Any], key: str) -> bool:
    keys = _MERGE_KEYS.get(key)
    if keys is None:
        return len(live) == len(desired) and all(map(_covers, live, desired))
    by_key = {tuple(item.get(k) for k in keys): item for item in live}
    return all(_covers(by_key.get(tuple(item.get(k) for k in keys)), item) for item in desired)


def _same_quantity(live: Any, desired: Any) -> bool:
    return live == desired or (live is not None and quantity(str(live)) == quantity(str(desired)))
