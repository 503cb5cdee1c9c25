"""Manifests by dotted paths, and the API server's answer to them, for tests of the CRDs."""

import copy
import json
from typing import Any, Final

from modelworker_api import kube
from modelworker_devcluster import DevCluster

ABSENT: Final = object()
"""As the value of a path: the field is taken out."""

_SOURCE: Final = {"pvc": {"claimName": "models", "path": "smollm2"}}
_SPECS: Final[dict[kube.Kind, dict[str, Any]]] = {
    kube.MODELWORKER: {"model": {"source": _SOURCE}},
    kube.REWARDMODEL: {"model": {"source": _SOURCE}, "scoring": {"type": "Process"}},
}


def manifest(kind: kube.Kind, changes: dict[str, Any], *, name: str = "smol") -> str:
    """A small valid object as JSON, with fields of its spec set by dotted path."""
    spec = copy.deepcopy(_SPECS[kind])
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = spec
        for key in parents:
            place = place.setdefault(key, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    meta = {"name": name}
    return json.dumps(
        {"apiVersion": kube.API_VERSION, "kind": kind.kind, "metadata": meta, "spec": spec}
    )


def dry_run(api: DevCluster, manifest: str) -> dict[str, Any]:
    """The object as the API server would store it.

    Raises:
        KubectlFailed: the API server refuses it; the error has its words.
    """
    answer = api.kubectl("create", "--dry-run=server", "-o=json", "-f", "-", stdin=manifest)
    stored: dict[str, Any] = json.loads(answer)
    return stored
