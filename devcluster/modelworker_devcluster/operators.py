"""The modelworker operator as a process of a cluster, with its CRDs."""

import sys
import time
import urllib.request
from collections.abc import Callable

from modelworker_devcluster import settings
from modelworker_devcluster.errors import StartFailed
from modelworker_devcluster.layout import LOOPBACK, Layout, free_ports
from modelworker_devcluster.processes import Processes

OPERATOR = "operator"

_GROUP = "modelworker.dev"
_CRDS = settings.CHECKOUT / "crds"
_KEEP_RUNNING = settings.PACKAGE / "keep_running.py"
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.1
_WORKER_IMAGE = "local/modelworker-worker:dev"
"""The kubelet has every image called `local/*`: it is the Python that runs devcluster."""


def install(
    layout: Layout, processes: Processes, kubectl: Callable[..., str], say: Callable[[str], None]
) -> int:
    """Apply the CRDs, start one operator, and return when it reconciles.

    Returns:
        The process id of what keeps the operator running.

    Raises:
        KubectlFailed: the CRDs cannot be applied.
        StartFailed: the operator ended or was not ready in time.
    """
    say("applying the CRDs")
    kubectl("apply", "--server-side", "-f", str(_CRDS))
    _await_served(kubectl)
    say("starting the operator")
    heartbeat_port, health_port = free_ports(2)
    prefix = "MODELWORKER_OPERATOR_"
    pid = processes.start(
        OPERATOR,
        [sys.executable, str(_KEEP_RUNNING), sys.executable, "-m", "modelworker_operator"],
        log=layout.log(OPERATOR),
        env=settings.package_environment({"TMPDIR": str(layout.temporary)})
        | {
            f"{prefix}KUBECONFIG": str(layout.kubeconfig),
            # Always the same holder of the Lease: one that was killed leads again at once.
            f"{prefix}IDENTITY": "devcluster",
            f"{prefix}WORKER_IMAGE": _WORKER_IMAGE,
            # Pods share the machine's network: each may listen on its own address alone.
            f"{prefix}WORKER_BIND_HOST": "$(MODELWORKER_POD_IP)",
            f"{prefix}HEARTBEAT_HOST": LOOPBACK,
            f"{prefix}HEARTBEAT_PORT": str(heartbeat_port),
            f"{prefix}HEARTBEAT_URL": f"http://{LOOPBACK}:{heartbeat_port}",
            f"{prefix}HEALTH_HOST": LOOPBACK,
            f"{prefix}HEALTH_PORT": str(health_port),
        },
    )
    _await_ready(f"http://{LOOPBACK}:{health_port}/readyz", layout, processes)
    return pid


def _await_served(kubectl: Callable[..., str]) -> None:
    """Until the API server serves every kind that was just applied."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    wanted = len(list(_CRDS.glob("*.yaml")))
    # `kubectl wait` fails on a CRD that has no conditions yet.
    while (
        len(kubectl("api-resources", f"--api-group={_GROUP}", "-o=name", check=False).split())
        < wanted
    ):
        if time.monotonic() > deadline:
            raise StartFailed(f"the API server does not serve the kinds of {_CRDS}")
        time.sleep(_POLL_S)


def _await_ready(url: str, layout: Layout, processes: Processes) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2.0) as answer:  # noqa: S310 - our own URL
                seen = answer.read().decode().strip()
        except OSError as error:
            seen = str(error)
        if seen == "leading":
            return
        if processes.codes()[OPERATOR] is not None or time.monotonic() > deadline:
            log = layout.log(OPERATOR)
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StartFailed(f"the operator is not ready ({seen}); the end of {log}:\n{tail}")
        time.sleep(_POLL_S)
