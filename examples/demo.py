"""The whole path on one machine: apply a policy and a reward model, call, scale and break them.

Starts a devcluster (a real Kubernetes control plane and a process kubelet), installs the
CRDs and the operator, and applies `smollm2.yaml` and `smollm2-prm.yaml` with kubectl. Exits
with 0 only if every step held; what it started is gone afterwards.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelworker import LM
from modelworker_devcluster import DevCluster

EXAMPLES = Path(__file__).parent
BATCH = 32
SAMPLES = 4


class DemoFailed(Exception):
    """A step did not hold; the message says what was seen."""


def check(held: bool, what: str) -> None:
    """Fail the demo unless the step held."""
    if not held:
        raise DemoFailed(what)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a title, and the time that its step took."""
    print(f"\n▸ {title}", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)


def show(text: str) -> None:
    """Print output of kubectl or of the model, indented."""
    for line in text.rstrip().splitlines():
        print(f"    {line}", flush=True)


def wait_ready(cluster: DevCluster, what: str, replicas: int, timeout: float = 300.0) -> None:
    """Show the Ready condition of an object as it changes, until all replicas are ready."""
    last = ""
    deadline = time.monotonic() + timeout
    while True:
        seen = cluster.kubectl(
            "get",
            what,
            "-o",
            "jsonpath={.status.readyReplicas}"
            "{'/'}{.spec.replicas} ready, {.status.conditions[?(@.type=='Ready')].reason}: "
            "{.status.conditions[?(@.type=='Ready')].message}",
        )
        if seen != last:
            show(seen)
        last = seen
        if seen.startswith(f"{replicas}/{replicas} ") and "AllReplicasReady" in seen:
            return
        check(time.monotonic() < deadline, f"not ready after {timeout:.0f} s: {seen}")
        time.sleep(0.25)


def call(lm: LM) -> None:
    """A completion, a chat, four samples, an embedding."""
    completion = lm.generate("The capital of France is", max_tokens=8, temperature=0)
    show(f"completion  The capital of France is{completion.text!r}")
    show(f"            {completion.worker}, revision {completion.revision}, {completion.dtype}")
    check(completion.text.startswith(" Paris"), f"expected ' Paris', got {completion.text!r}")

    question = [{"role": "user", "content": "What is the capital of Italy? Answer in one word."}]
    chat = lm.chat(question, max_tokens=12, temperature=0)
    show(f"chat        {chat.text!r}")
    check("Rome" in chat.text, f"expected Rome, got {chat.text!r}")

    samples = lm.generate("Once upon a time", n=4, max_tokens=16, temperature=0.8, seed=1)
    for sample in samples.samples:
        show(f"sample {sample.index}    {sample.mean_logprob:6.2f} per token  {sample.text!r}")
    check(len(set(samples.texts)) > 1, "four samples at temperature 0.8 were all the same")

    vector = lm.embed("Kubernetes runs containers.")
    norm = math.sqrt(sum(x * x for x in vector))
    show(f"embedding   {len(vector)} numbers, norm {norm:.4f}")
    check(abs(norm - 1) < 1e-3, f"an embedding of norm 1 was expected, not {norm}")


def best_of_n() -> None:
    """Run the example: the policy answers, the reward model scores the steps of each answer."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "best_of_n.py"), "-n", str(SAMPLES)],
        check=False,
        capture_output=True,
        text=True,
    )
    show(done.stdout + done.stderr)
    check(done.returncode == 0, f"best_of_n.py ended with {done.returncode}")
    lines = done.stdout.splitlines()
    scores = [float(line.split()[2]) for line in lines if line.startswith("answer ")]
    best = float(next(line for line in lines if line.startswith("best: ")).split()[1])
    check(len(scores) == SAMPLES, f"{len(scores)} of {SAMPLES} answers have a score")
    check(best == max(scores), f"the best of {scores} is not {best}")


def kill_one_worker_under_load(cluster: DevCluster, lm: LM) -> None:
    """Kill a worker with SIGKILL while a batch runs; every answer must arrive, in order."""
    prompts = [f"Count on from {start}: {start + 1}, {start + 2}," for start in range(BATCH)]
    undisturbed = lm.generate(prompts, max_tokens=24, temperature=0)
    killed = threading.Event()

    def kill() -> None:
        pods = cluster.kubectl(
            "get", "pods", "-l", "modelworker.dev/name=smollm2", "-o", "name"
        ).split()
        pid = cluster.container_pid("default", pods[0].removeprefix("pod/"), "worker")
        os.kill(pid, signal.SIGKILL)
        show(f"killed {pods[0]} (process {pid}) with SIGKILL")
        killed.set()

    timer = threading.Timer(0.5, kill)
    timer.start()
    answers = lm.generate(prompts, max_tokens=24, temperature=0)
    timer.join()
    check(killed.is_set(), "the batch was over before a worker was killed")
    same = sum(a.token_ids == b.token_ids for a, b in zip(answers, undisturbed, strict=True))
    show(f"{same} of {BATCH} answers arrived, in order, equal to those of the undisturbed run")
    check(same == BATCH, f"only {same} of {BATCH} answers are those of their prompt")


def demo(cluster: DevCluster) -> None:
    """Every step, in order."""
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    os.environ["PATH"] = f"{cluster.binaries}{os.pathsep}{os.environ['PATH']}"
    with step("install the CRDs and start the operator"):
        cluster.install_operator()
    with step("kubectl apply -f examples/smollm2.yaml, and fill its volume with the model"):
        show(cluster.kubectl("apply", "-f", str(EXAMPLES / "smollm2.yaml")))
        subprocess.run([sys.executable, str(EXAMPLES / "fill_volume.py")], check=True)
    with step("wait until the worker is ready"):
        wait_ready(cluster, "mw/smollm2", 1)
        show(cluster.kubectl("get", "mw"))
    with LM("smollm2") as lm:
        with step("call it from Python"):
            call(lm)
        with step("kubectl apply -f examples/smollm2-prm.yaml: a reward model"):
            show(cluster.kubectl("apply", "-f", str(EXAMPLES / "smollm2-prm.yaml")))
            wait_ready(cluster, "rwm/smollm2-prm", 1)
            show(cluster.kubectl("get", "rwm"))
        with step(f"best of {SAMPLES}: the policy samples, the reward model scores each step"):
            best_of_n()
            show(cluster.kubectl("delete", "-f", str(EXAMPLES / "smollm2-prm.yaml")))
        with step("kubectl scale mw/smollm2 --replicas=2"):
            show(cluster.kubectl("scale", "mw/smollm2", "--replicas=2"))
            wait_ready(cluster, "mw/smollm2", 2)
        with step(f"kill one of two workers while a batch of {BATCH} runs"):
            kill_one_worker_under_load(cluster, lm)
    with step("kubectl delete -f examples/smollm2.yaml"):
        show(cluster.kubectl("delete", "-f", str(EXAMPLES / "smollm2.yaml"), "--wait=true"))


def main() -> int:
    """Run the demo; 0 if every step held."""
    started = time.monotonic()
    print("▸ start a devcluster", flush=True)
    try:
        with DevCluster() as cluster:
            show(f"Kubernetes at {cluster.server}, {time.monotonic() - started:.1f} s")
            demo(cluster)
    except DemoFailed as failure:
        print(f"\n✗ the demo failed: {failure}", file=sys.stderr)
        return 1
    print(f"\n✓ every step held, in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
