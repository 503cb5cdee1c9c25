"""What calls through the API server cost: LM with access="proxy" minus LM with access="direct".

The worker's stand-in of client_overhead.py, the same for both, is a pod of a real API server,
and calls take turns in the same run. The API server passes nothing on to loopback addresses,
so the benchmark runs itself in a network namespace that has another one (`unshare`).
"""

import json
import os
import subprocess
import sys
import time

from _common import quick, report
from client_overhead import BATCH_IN_FLIGHT, PROMPT, TOKENS, WARM_UP, lm_batch, name_it, p, stand_in
from modelworker import LM
from modelworker_api import kube
from modelworker_devcluster import DevCluster

INSIDE = "BENCH_PROXY_INSIDE"
HOST = "10.98.0.1"
SET_UP = f'ip link set lo up && ip addr add {HOST}/32 dev lo && exec "$@"'


def again_inside() -> int:
    """Run this program in a network namespace of its own."""
    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*alone, "sh", "-c", SET_UP, "sh", sys.executable, *sys.argv]
    return subprocess.call(command, env={**os.environ, INSIDE: "1"})


def make_pod(cluster: DevCluster) -> None:
    """The pod that `name_it` speaks of, at the stand-in's address."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod-a", "namespace": "default"},
        "spec": {"containers": [{"name": kube.WORKER_CONTAINER, "image": "none"}]},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    status = json.dumps({"status": {"podIP": HOST, "podIPs": [{"ip": HOST}]}})
    cluster.kubectl("patch", "pod", "pod-a", "--subresource=status", "--type=merge", "-p", status)


def call_times(lms: list[LM], count: int) -> list[list[float]]:
    """Milliseconds of the calls of each LM, which take turns."""
    times: list[list[float]] = [[] for _ in lms]
    for number in range(count + WARM_UP):
        for lm, taken in zip(lms, times, strict=True):
            started = time.perf_counter()
            lm.generate(PROMPT, max_tokens=TOKENS)
            if number >= WARM_UP:
                taken.append((time.perf_counter() - started) * 1e3)
    return times


def measure(short: bool) -> None:
    """Measure and report."""
    count = 150 if short else 1000
    with stand_in(HOST) as address, DevCluster(kubelet=False) as cluster:
        name_it(cluster, address)
        make_pod(cluster)
        direct, proxy = (
            LM(
                "policy",
                namespace="default",
                kubeconfig=cluster.kubeconfig,
                max_in_flight=BATCH_IN_FLIGHT,
                progress=False,
                access=access,
            )
            for access in ("direct", "proxy")
        )
        with direct, proxy:
            times = call_times([direct, proxy], count)
            for lm in (direct, proxy):
                lm_batch(lm, BATCH_IN_FLIGHT)
            rates = [lm_batch(lm, 2 * count) for lm in (direct, proxy)]
    rows = [
        (f"{name} p{percent}", p(taken, percent))
        for name, taken in zip(("direct", "proxy"), times, strict=True)
        for percent in (50, 95)
    ]
    before, after = (p(taken, 50) for taken in times)
    report(
        rows,
        bench="proxy",
        value=round(after - before, 4),
        unit="ms",
        baseline=before,
        ratio=round(after / before, 4),
        calls=count,
        direct_batch_calls_per_s=int(rates[0]),
        proxy_batch_calls_per_s=int(rates[1]),
    )


def main() -> int:
    short = quick(__doc__)
    if INSIDE not in os.environ:
        return again_inside()
    measure(short)
    return 0


if __name__ == "__main__":
    sys.exit(main())
