"""Restart of the operator with 500 converged objects: seconds until all were looked at.

It has to write nothing. The baseline is a Python process that starts, imports the same
Kubernetes client and lists the same objects.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from _cluster import PASSES, Audit, Operator, api, control_plane, create_converged, until
from _common import quick, report

LISTED = (
    "/apis/modelworker.dev/v1alpha1/modelworkers",
    "/apis/apps/v1/deployments",
    "/api/v1/services",
    "/api/v1/pods",
)


async def list_all(kubeconfig: Path) -> int:
    """Number of objects that the operator has to know."""
    async with api(kubeconfig) as client:
        return sum([len((await client.request("GET", path))["items"]) for path in LISTED])


def bare_seconds(kubeconfig: Path) -> float:
    """Seconds of a fresh process that lists everything."""
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--list", str(kubeconfig)], check=True)
    return time.perf_counter() - began


def main() -> None:
    number = 50 if quick(__doc__) else 500
    with control_plane() as cluster:
        first = Operator(cluster)
        until(first.leads, timeout=60, what="leading operator")
        create_converged(first, number)
        first.stop()
        baseline = min(bare_seconds(cluster.kubeconfig) for _ in range(2))
        audit = Audit(cluster)
        began = time.perf_counter()
        second = Operator(cluster)
        until(
            lambda: second.metric(PASSES) >= number and second.metric("workqueue_depth") == 0,
            what="a pass over every object",
        )
        value = time.perf_counter() - began
        time.sleep(5)
        writes = audit.writes()
        second.stop()
    report(
        [("operator, until every object was looked at", value), ("bare client, list", baseline)],
        bench="restart",
        value=value,
        unit="s",
        baseline=baseline,
        ratio=value / baseline,
        writes=writes,
        objects=number,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        asyncio.run(list_all(Path(sys.argv[2])))
    else:
        main()
