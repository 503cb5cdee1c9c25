"""Manifests by dotted paths, and the API server's answer to them, for tests of the CRDs."""

import copy
import json
from typing import Any, Final

from modelworker_api import kube
from modelworker_devcluster import DevCluster

ABSENT: Final = object()
"""As the value of a path: the field is taken out."""

METADATA: Final = (
    "http://169.254.169.254",
    "http://169.254.169.254:80/latest/",
    "http://[fe80::1]",
    "http://[fd00:ec2::254]",
    "http://[fd00:0ec2:0::254]",
    "http://[::ffff:169.254.169.254]",
    "http://100.100.100.200",
    "http://2852039166",
    "http://0xA9FEA9FE",
    "http://169.254.43518/",
    "http://169.254.169.254.",
    "http://metadata.google.internal",
    "http://METADATA.google.internal./",
    "http://metadata",
    "http://169\u3002254\u3002169\u3002254",
)
"""URLs of services that give away a node's credentials, also in disguise: no hubs."""

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
