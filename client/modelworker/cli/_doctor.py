"""`kubectl modelworker doctor`: is everything there that calls and workers need?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from modelworker.cli import _checks, _gather, _rights
from modelworker.cli._calls_check import calls
from modelworker.cli._cluster import METADATA_ONLY, Cluster, Target, core_path
from modelworker.cli._failures import Code, Refused
from modelworker.cli._findings import Finding, Level
from modelworker.cli._operator import leaders
from modelworker.cli._output import BAD, BUSY, GOOD, Cell, emit, table
from modelworker.cli._reach import Reach
from modelworker.cli._world import World
from modelworker_api import kube

_STYLES: Final = {Level.OK: GOOD, Level.WARN: BUSY, Level.FAIL: BAD}
_OPENAPI: Final = f"/openapi/v3/apis/{kube.API_VERSION}"
_AT_ONCE: Final = 8

Body = Mapping[str, Any]


def doctor(
    world: World,
    target: Target,
    names: Sequence[str],
    *,
    access: str | None,
    output: str | None,
) -> Code:
    """Check what calls and workers need; 1 if something is missing.

    Raises:
        Failure: if there is no cluster to look at, or a name has no object.
    """
    cluster = world.connect(target)
    found: list[Finding] = []
    for finding in _examine(world, cluster, target, names, Reach(cluster, access)):
        found.append(finding)
        if output is None:
            _print(world, finding)
    if output is not None:
        emit({"items": [finding.data() for finding in found]}, output)
    return Code.FAILED if any(one.level is Level.FAIL for one in found) else Code.OK


def _print(world: World, finding: Finding) -> None:
    level = Cell(f"{finding.level:<4}", _STYLES[finding.level])
    lines = table([], [[level, f"{finding.check:<8}", finding.message]])
    for line in lines:
        world.console.print(line)
    if finding.step:
        world.console.print(f"{'':18}next: {finding.step}")


def _examine(
    world: World, cluster: Cluster, target: Target, names: Sequence[str], reach: Reach
) -> Iterator[Finding]:
    version = cluster.get("/version")
    yield Finding(
        "cluster", Level.OK, f"{cluster.server} runs Kubernetes {version.get('gitVersion', '?')}"
    )
    kinds = list(_checks.kinds(_schemas(cluster)))
    yield from kinds
    yield from _our_rights(cluster)
    yield from _read(
        "operator",
        f"the Lease {kube.LEASE_NAME}",
        lambda: list(_checks.operators(leaders(cluster), world.now())),
    )
    if any(one.level is Level.FAIL for one in kinds):
        return
    try:
        bodies = _gather.bodies(cluster, target, names)
    except Refused as error:
        if not error.denied:
            raise
        yield _checks.blind("objects", "ModelWorkers and RewardModels", error.said)
        return
    yield from _read("gpus", "nodes", lambda: _gpus(cluster, bodies))
    yield from _named(cluster, bodies, _checks.claims_of, _claim)
    yield from _named(cluster, bodies, _checks.secrets_of, _secret)
    yield from calls(cluster, reach, _gather.gather(cluster, target, names, events=False).facts)


def _schemas(cluster: Cluster) -> Mapping[str, Body]:
    try:
        schemas: Mapping[str, Body] = cluster.get(_OPENAPI)["components"]["schemas"]
    except Refused as error:
        if error.absent:
            return {}
        raise
    return schemas


def _our_rights(cluster: Cluster) -> Iterator[Finding]:
    namespace = cluster.namespace

    def ask(right: _rights.Right) -> Finding:
        answer = cluster.post(_rights.REVIEWS, right.review(namespace))
        allowed = bool((answer.get("status") or {}).get("allowed"))
        return _rights.judged(right, namespace, allowed=allowed)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(ask, _rights.RIGHTS)


def _read(check: str, what: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings, or that we may not look."""
    try:
        yield from look()
    except Refused as error:
        if not error.denied:
            raise
        yield _checks.blind(check, what, error.said)


def _gpus(cluster: Cluster, bodies: Sequence[Body]) -> list[Finding]:
    nodes = cluster.get(core_path("nodes", None))["items"]
    try:
        pods = cluster.get(core_path("pods", None))["items"]
    except Refused:
        pods = None
    return list(_checks.gpus(nodes, pods, bodies))


def _named(
    cluster: Cluster,
    bodies: Sequence[Body],
    names_of: Callable[[Body], list[str]],
    look: Callable[[Cluster, str, str], Finding],
) -> Iterator[Finding]:
    """A finding for each thing that the objects name."""
    wanted = {(body["metadata"]["namespace"], name) for body in bodies for name in names_of(body)}
    for namespace, name in sorted(wanted):
        yield look(cluster, namespace, name)


def _claim(cluster: Cluster, namespace: str, name: str) -> Finding:
    found: Body | None
    try:
        found = cluster.get(core_path("persistentvolumeclaims", namespace, name))
    except Refused as error:
        if error.denied:
            return _checks.blind("storage", f"claim {namespace}/{name}", error.said)
        if not error.absent:
            raise
        found = None
    return _checks.claim(name, namespace, found)


def _secret(cluster: Cluster, namespace: str, name: str) -> Finding:
    try:
        cluster.get(core_path("secrets", namespace, name), accept=METADATA_ONLY)
    except Refused as error:
        if error.denied:
            return _checks.blind("secrets", f"secret {namespace}/{name}", error.said)
        if not error.absent:
            raise
        return _checks.secret(name, namespace, exists=False)
    return _checks.secret(name, namespace, exists=True)
