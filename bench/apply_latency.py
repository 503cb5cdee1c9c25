"""From the creation of a ModelWorker to its Deployment, against a client that writes it itself.

Once one object after the other, each when the last one's Deployment is there (the value),
and once all at once, until the last Deployment is there. Objects ask for no replicas, so
that pods take no part. A watch tells when a Deployment is there.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from _cluster import OBJECTS, Api, Operator, api, control_plane, percentile, until, worker
from _common import quick, report
from modelworker_api import kube
from modelworker_operator.config import Config
from modelworker_operator.desired import desired_children
from modelworker_operator.resources import DEPLOYMENTS, resource_of
from modelworker_operator.spec import parse


class Seen:
    """When a watch showed each Deployment."""

    def __init__(self) -> None:
        self._times: dict[str, asyncio.Future[float]] = {}

    def __getitem__(self, name: str) -> asyncio.Future[float]:
        """The time, once it is known."""
        return self._times.setdefault(name, asyncio.get_running_loop().create_future())

    async def watch(self, client: Api) -> None:
        """Watch until cancelled."""
        async for event in client.watch(DEPLOYMENTS.path()):
            meta = event["object"]["metadata"]
            if event["type"] == "ADDED":
                self[f"{meta['namespace']}/{meta['name']}"].set_result(time.perf_counter())


Make = Callable[[str], Coroutine[Any, Any, None]]


async def measure(seen: Seen, namespace: str, number: int, make: Make) -> tuple[list[float], float]:
    """Milliseconds of each of `number` objects alone, and of as many at once."""
    alone = []
    for index in range(number):
        began = time.perf_counter()
        await make(f"w{index}")
        alone.append(1000 * (await seen[f"{namespace}/mw-w{index}"] - began))
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(make(f"b{index}"))
    last = max([await seen[f"{namespace}/mw-b{index}"] for index in range(number)])
    return alone, 1000 * (last - began)


async def both(kubeconfig: Path, number: int) -> list[tuple[list[float], float]]:
    """Milliseconds by the operator, and by a bare client that writes the same children."""
    config = Config(heartbeat_url="http://heartbeats.example")
    async with api(kubeconfig) as client:

        async def by_operator(name: str) -> None:
            await client.request("POST", OBJECTS, worker(name, 0))

        async def by_hand(name: str) -> None:
            raw = worker(name, 0)
            raw["metadata"]["namespace"] = "bare"
            for child in desired_children(parse(kube.MODELWORKER, raw), config):
                meta = {k: v for k, v in child["metadata"].items() if k != "ownerReferences"}
                path = resource_of(child).path("bare", meta["name"])
                await client.request(
                    "PATCH", path, {**child, "metadata": meta}, fieldManager="bench", force="true"
                )

        seen = Seen()
        watching = asyncio.create_task(seen.watch(client))
        await asyncio.sleep(1)
        bare = await measure(seen, "bare", number, by_hand)
        ours = await measure(seen, "default", number, by_operator)
        watching.cancel()
        return [ours, bare]


def main() -> None:
    number = 20 if quick(__doc__) else 100
    with control_plane() as cluster:
        cluster.kubectl("create", "namespace", "bare")
        operator = Operator(cluster)
        until(operator.leads, timeout=60, what="leading operator")
        results = asyncio.run(both(cluster.kubeconfig, number))
        operator.stop()
    rows = []
    for who, (alone, together) in zip(("operator", "bare client"), results, strict=True):
        rows += [
            (f"{who}, one by one, p50", percentile(alone, 50)),
            (f"{who}, one by one, p95", percentile(alone, 95)),
            (f"{who}, {number} at once", together),
        ]
    value, p95, at_once, baseline, baseline_p95, baseline_at_once = (ms for _, ms in rows)
    report(
        rows,
        bench="apply_latency",
        value=value,
        unit="ms",
        baseline=baseline,
        ratio=value / baseline,
        p95=p95,
        baseline_p95=baseline_p95,
        at_once=at_once,
        baseline_at_once=baseline_at_once,
        objects=number,
    )


if __name__ == "__main__":
    main()
