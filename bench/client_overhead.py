"""What LM adds to a call: LM minus raw httpx to the same worker, and requests to the API server.

A worker stand-in with one fixed answer runs in a process of its own, a ModelWorker on a
real API server names it, and raw and LM calls take turns in the same run. Goals: 0.3 ms at
p50 and 0 API-server requests for a call.
"""

import asyncio
import json
import math
import multiprocessing
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from _common import quick, report
from modelworker import LM
from modelworker_api import kube, wire
from modelworker_devcluster import DevCluster

CRD = Path(__file__).parent.parent / "crds/modelworker.yaml"
TOKENS = 32
PROMPT = "The capital of France is"
BODY = {
    "model": "default/policy",
    "prompt": PROMPT,
    "n": 1,
    "max_tokens": TOKENS,
    "temperature": 1.0,
    "return_token_ids": True,
    "logprobs": 0,
}
WARM_UP = 50
BATCH_IN_FLIGHT = 64


def answer() -> bytes:
    """A completion of 32 tokens, as the worker gives it."""
    logprobs = wire.CompletionLogprobs(
        tokens=[" word"] * TOKENS,
        token_logprobs=[-0.125] * TOKENS,
        top_logprobs=[None] * TOKENS,
        text_offset=[5 * i for i in range(TOKENS)],
    )
    choice = wire.CompletionChoice(
        index=0,
        text=" word" * TOKENS,
        finish_reason="length",
        logprobs=logprobs,
        token_ids=list(range(100, 100 + TOKENS)),
        prompt_token_ids=list(range(6)),
    )
    usage = wire.Usage(prompt_tokens=6, completion_tokens=TOKENS, total_tokens=6 + TOKENS)
    made = wire.CompletionResponse(
        id="cmpl-1", created=1, model="policy", choices=[choice], usage=usage
    )
    return made.model_dump_json().encode()


def serve(pipe: Connection, host: str) -> None:
    """The stand-in's process."""
    content = answer()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (wire.HEADER_WORKER.encode(), b"pod-a"),
        (wire.HEADER_REVISION.encode(), b"rev-1"),
        (wire.HEADER_DTYPE.encode(), b"float32"),
    ]

    async def app(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    # With the protocol named, or asyncio leaves Nagle on: 40 ms a call.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind((host, 0))
    pipe.send(listener.getsockname()[1])
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def stand_in(host: str = "127.0.0.1") -> Iterator[str]:
    """Address of a running stand-in."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, host), daemon=True)
    process.start()
    try:
        yield f"{host}:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def name_it(cluster: DevCluster, address: str) -> None:
    """A ModelWorker `policy` whose one worker is the stand-in."""
    cluster.kubectl("apply", "-f", str(CRD))
    # `kubectl wait` fails on a CRD that has no conditions yet.
    group = f"--api-group={kube.GROUP}"
    while kube.MODELWORKER.kind not in cluster.kubectl("api-resources", group, check=False):
        time.sleep(0.1)
    source = {"huggingFace": {"repo": "org/model", "revision": "0" * 40}}
    manifest = {
        "apiVersion": kube.API_VERSION,
        "kind": kube.MODELWORKER.kind,
        "metadata": {"name": "policy", "namespace": "default"},
        "spec": {"model": {"source": source}},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    worker = {"pod": "pod-a", "address": address, "state": kube.WorkerState.READY}
    status = json.dumps({"status": {"workers": [worker]}})
    cluster.kubectl("patch", "mw", "policy", "--subresource=status", "--type=merge", "-p", status)


def api_requests(cluster: DevCluster) -> int:
    """Requests about ModelWorkers that are not kubectl's, by the audit log."""
    events = (json.loads(line) for line in cluster.audit_log.read_text().splitlines())
    return sum(
        event.get("objectRef", {}).get("resource") == kube.MODELWORKER.plural
        and not event["userAgent"].startswith("kubectl")
        for event in events
    )


def sync_times(lm: LM, url: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of raw and of LM calls that take turns."""
    raw, ours = [], []
    with httpx.Client(trust_env=False) as client:
        for i in range(count + WARM_UP):
            t0 = time.perf_counter()
            client.post(url, json=BODY).json()
            t1 = time.perf_counter()
            lm.generate(PROMPT, max_tokens=TOKENS)
            t2 = time.perf_counter()
            if i >= WARM_UP:
                raw.append((t1 - t0) * 1e3)
                ours.append((t2 - t1) * 1e3)
    return raw, ours


async def async_times(lm: LM, url: str, count: int) -> tuple[list[float], list[float]]:
    """The same with httpx.AsyncClient and AsyncLM."""
    raw, ours = [], []
    async with httpx.AsyncClient(trust_env=False) as client, lm.aio as aio:
        for i in range(count + WARM_UP):
            t0 = time.perf_counter()
            (await client.post(url, json=BODY)).json()
            t1 = time.perf_counter()
            await aio.generate(PROMPT, max_tokens=TOKENS)
            t2 = time.perf_counter()
            if i >= WARM_UP:
                raw.append((t1 - t0) * 1e3)
                ours.append((t2 - t1) * 1e3)
    return raw, ours


async def raw_batch(url: str, count: int) -> float:
    """Calls a second of httpx.AsyncClient with 64 calls under way."""
    places = asyncio.Semaphore(BATCH_IN_FLIGHT)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

        async def one() -> None:
            async with places:
                (await client.post(url, json=BODY)).json()

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - started)


def lm_batch(lm: LM, count: int) -> float:
    """Calls a second of one LM batch with as many under way."""
    started = time.perf_counter()
    lm.generate([PROMPT] * count, max_tokens=TOKENS)
    return count / (time.perf_counter() - started)


def p(values: list[float], percent: int) -> float:
    """A percentile, to the microsecond."""
    return round(statistics.quantiles(values, n=100)[percent - 1], 4)


def main() -> None:
    short = quick(__doc__)
    count, rounds = (150, 2) if short else (1000, 3)
    series: dict[str, list[float]] = {"raw": [], "lm": [], "raw async": [], "lm async": []}
    with stand_in() as address, DevCluster(kubelet=False) as cluster:
        name_it(cluster, address)
        url = f"http://{address}/v1/completions"
        with LM(
            "policy",
            namespace="default",
            kubeconfig=cluster.kubeconfig,
            max_in_flight=BATCH_IN_FLIGHT,
            progress=False,
        ) as lm:
            lm.generate(PROMPT)
            before, calls = api_requests(cluster), 0
            for _ in range(rounds):
                raw, ours = sync_times(lm, url, count)
                series["raw"] += raw
                series["lm"] += ours
                calls += count + WARM_UP
            asked = (api_requests(cluster) - before) / calls
            for _ in range(rounds):
                raw, ours = asyncio.run(async_times(lm, url, count))
                series["raw async"] += raw
                series["lm async"] += ours
            raw_rate = asyncio.run(raw_batch(url, 2 * count))
            lm_rate = lm_batch(lm, 2 * count)
    rows = [
        (f"{name} p{percent}", p(values, percent))
        for name, values in series.items()
        for percent in (50, 95)
    ]
    overhead = p(series["lm"], 50) - p(series["raw"], 50)
    async_overhead = p(series["lm async"], 50) - p(series["raw async"], 50)
    rows += [("overhead p50", overhead), ("overhead async p50", async_overhead)]
    report(
        rows,
        bench="client_overhead",
        value=round(overhead, 4),
        unit="ms",
        baseline=p(series["raw"], 50),
        ratio=round(p(series["lm"], 50) / p(series["raw"], 50), 4),
        goal=0.3,
        api_requests_per_call=asked,
        overhead_async=round(async_overhead, 4),
        p95=p(series["lm"], 95),
        baseline_p95=p(series["raw"], 95),
        batch_calls_per_s=math.floor(lm_rate),
        baseline_batch_calls_per_s=math.floor(raw_rate),
        calls=calls,
    )


if __name__ == "__main__":
    main()
