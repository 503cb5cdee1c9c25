"""What `doctor` makes of what it read, check by check. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from modelworker.cli._facts import age
from modelworker.cli._findings import Finding, Level
from modelworker.cli._operator import Leader
from modelworker_api import kube

INSTALL: Final = "helm upgrade --install modelworker helm/modelworker -n modelworker-system"
DEFAULT_GPU: Final = "nvidia.com/gpu"
NEWEST_FIELDS: Final = ("spec.auth.mode", "status.workers")
"""Fields of both kinds: a CRD without them is older than this command."""
_LATE_SECONDS: Final = 30.0

Body = Mapping[str, Any]


def kinds(schemas: Mapping[str, Body]) -> Iterator[Finding]:
    """Whether the CRDs are there, and as new as this command; from the OpenAPI schemas."""
    for kind in kube.KINDS:
        schema = next((s for name, s in schemas.items() if name.endswith(f".{kind.kind}")), None)
        absent = [field for field in NEWEST_FIELDS if schema and not _has(schema, field)]
        name = f"{kind.plural}.{kube.GROUP}"
        if schema is None:
            yield Finding("crds", Level.FAIL, f"the cluster does not know {name}", INSTALL)
        elif absent:
            yield Finding(
                "crds",
                Level.FAIL,
                f"{name} is older than this command: it has no {', '.join(absent)}",
                INSTALL,
            )
        else:
            yield Finding("crds", Level.OK, f"{name} {kube.VERSION}")


def _has(schema: Body, path: str) -> bool:
    for part in path.split("."):
        found = (schema.get("properties") or {}).get(part)
        if found is None:
            return False
        schema = found
    return True


def operators(found: Sequence[Leader], now: datetime) -> Iterator[Finding]:
    """Whether an operator leads, and did so a moment ago."""
    if not found:
        yield Finding(
            "operator", Level.FAIL, f"no Lease {kube.LEASE_NAME}: it never ran here", INSTALL
        )
    for leader in found:
        where = f"in {leader.namespace}"
        deployments = f"kubectl get pods -n {leader.namespace}"
        late = max(_LATE_SECONDS, 2.0 * leader.seconds)
        if not leader.pod:
            yield Finding("operator", Level.FAIL, f"nobody leads {where}", deployments)
        elif leader.renewed is None or (now - leader.renewed).total_seconds() > late:
            yield Finding(
                "operator",
                Level.FAIL,
                f"{leader.pod} {where} led last {age(leader.renewed, now)} ago",
                f"{deployments}; kubectl modelworker logs --operator",
            )
        else:
            yield Finding(
                "operator",
                Level.OK,
                f"{leader.pod} {where} leads, seen {age(leader.renewed, now)} ago",
            )


def gpus(
    nodes: Iterable[Body], pods: Iterable[Body] | None, objects: Iterable[Body]
) -> Iterator[Finding]:
    """The GPUs of each node, and whether one has as many as a worker asks for.

    `pods` is None where those of all namespaces may not be listed.
    """
    wanted: dict[str, int] = defaultdict(int)
    for body in objects:
        gpu = (body.get("spec") or {}).get("gpu") or {}
        name = gpu.get("resourceName") or DEFAULT_GPU
        wanted[name] = max(wanted[name], gpu.get("count") or 0)
    names = set(wanted) | {DEFAULT_GPU}
    used = None if pods is None else _used(pods, names)
    most: dict[str, int] = dict.fromkeys(names, 0)
    for node in nodes:
        name = node["metadata"]["name"]
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        for resource in sorted(names & set(allocatable)):
            count = int(allocatable[resource])
            most[resource] = max(most[resource], count)
            taken = "" if used is None else f", {used[name, resource]} in use"
            yield Finding("gpus", Level.OK, f"node {name}: {count} {resource}{taken}")
    for resource, count in sorted(wanted.items()):
        if count > most[resource]:
            yield Finding(
                "gpus",
                Level.FAIL,
                f"a worker asks for {count} {resource}, and no node has more than {most[resource]}",
                "lower spec.gpu.count, add nodes, or see that the device plugin runs: "
                "kubectl get nodes -o yaml shows allocatable",
            )
    if not any(most.values()) and not any(wanted.values()):
        yield Finding("gpus", Level.OK, "no node has a GPU, and no worker asks for one")


def _used(pods: Iterable[Body], names: set[str]) -> Mapping[tuple[str, str], int]:
    used: dict[tuple[str, str], int] = defaultdict(int)
    for pod in pods:
        spec, phase = pod.get("spec") or {}, (pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed") or not spec.get("nodeName"):
            continue
        for container in spec.get("containers") or ():
            requests = (container.get("resources") or {}).get("requests") or {}
            for name in names & set(requests):
                used[spec["nodeName"], name] += int(requests[name])
    return used


def claims_of(body: Body) -> list[str]:
    """The volume claims that an object names."""
    return sorted({found["claimName"] for found in _found(body.get("spec"), "pvc")})


def secrets_of(body: Body) -> list[str]:
    """The Secrets that an object names."""
    spec = body.get("spec")
    single = [*_found(spec, "tokenSecretRef"), *_found(spec, "secretKeyRef")]
    return sorted({one["name"] for one in (*single, *_found(spec, "imagePullSecrets"))})


def _found(value: object, key: str) -> Iterator[Any]:
    """Everything under this key, at any depth; the elements of a list one by one."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key:
                yield from inner if isinstance(inner, list) else (inner,)
            else:
                yield from _found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, key)


def claim(name: str, namespace: str, found: Body | None) -> Finding:
    """Whether a claim is there and bound; `found` is None where there is none."""
    what = f"claim {namespace}/{name}"
    describe = f"kubectl describe pvc {name} -n {namespace}"
    if found is None:
        return Finding(
            "storage",
            Level.FAIL,
            f"{what} does not exist",
            f"create it, or correct the source of the object in {namespace} that names it",
        )
    phase = (found.get("status") or {}).get("phase") or "Unknown"
    if phase == "Bound":
        return Finding("storage", Level.OK, f"{what} is bound")
    if phase == "Pending":
        return Finding(
            "storage",
            Level.WARN,
            f"{what} is not bound yet; its class may wait for the first pod",
            describe,
        )
    return Finding("storage", Level.FAIL, f"{what} is {phase}", describe)


def secret(name: str, namespace: str, *, exists: bool) -> Finding:
    """Whether a Secret is there; what is in it is never read."""
    if exists:
        return Finding("secrets", Level.OK, f"secret {namespace}/{name} exists")
    return Finding(
        "secrets",
        Level.FAIL,
        f"secret {namespace}/{name} does not exist",
        f"kubectl create secret generic {name} -n {namespace} --from-file=token=FILE",
    )


def blind(check: str, what: str, said: str) -> Finding:
    """What could not be looked at."""
    return Finding(
        check,
        Level.WARN,
        f"{what} cannot be looked at: {said}",
        "ask somebody who may to run kubectl modelworker doctor",
    )
