"""What a status is made from, and small readers of pods."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker_api import kube, wire
from modelworker_operator import names
from modelworker_operator.podspec import Manifest
from modelworker_operator.spec import Identity


@dataclass(frozen=True, slots=True)
class Observed:
    """The children of one object as the API server has them.

    `deployment` must be the one that this pass applied (the answer to the apply), if it
    applied one: an older one looks like a finished rollout.
    """

    deployment: Manifest | None
    service: Manifest | None
    pods: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """The last heartbeat of a pod and its age by the operator's own clock."""

    heartbeat: wire.Heartbeat
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the pass could not bring the children to the spec."""

    reason: kube.Reason
    message: str


def condition_of(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of that type in any object's status; empty if it has none."""
    conditions = status.get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


LONGEST_QUOTE: Final = 300
_SECRETS: Final = re.compile(r"\bhf_\w{8,}|(?<=Bearer )[\w.~+/=-]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def quote(text: str, limit: int = LONGEST_QUOTE) -> str:
    """Foreign text on one line, without what looks like a credential, the middle cut if long."""
    line = _SECRETS.sub("***", " ".join(text.split()))
    if len(line) <= limit:
        return line
    tail = limit // 3
    return f"{line[: limit - tail - 1]}…{line[-tail:]}"


@dataclass(frozen=True, slots=True)
class Pod:
    """The parts of a pod that a status depends on."""

    raw: Manifest

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.raw["metadata"]["name"])

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.raw["metadata"].get("uid", ""))

    @property
    def status(self) -> Manifest:
        """The pod's own status."""
        return self.raw.get("status") or {}

    @property
    def deleted(self) -> bool:
        """Whether it is being taken down."""
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    @property
    def ended(self) -> bool:
        """Whether it is over for good, such as an evicted one; its Deployment replaces it."""
        return self.status.get("phase") in ("Failed", "Succeeded")

    @property
    def ready(self) -> bool:
        """Whether it can be called: Ready, with an address, and not being taken down."""
        condition = condition_of(self.status, "Ready")
        return bool(
            condition.get("status") == "True" and self.status.get("podIP") and not self.deleted
        )

    @property
    def address(self) -> str | None:
        """IP and port of the worker, brackets around IPv6."""
        ip = self.status.get("podIP")
        if not ip:
            return None
        return f"[{ip}]:{kube.WORKER_PORT}" if ":" in ip else f"{ip}:{kube.WORKER_PORT}"

    @property
    def container(self) -> Manifest:
        """Status of the worker's container; empty before the kubelet has seen the pod."""
        statuses = self.status.get("containerStatuses") or ()
        return next((one for one in statuses if one.get("name") == kube.WORKER_CONTAINER), {})

    @property
    def running(self) -> bool:
        """Whether the worker's container runs now."""
        return "running" in (self.container.get("state") or {})

    @property
    def waiting(self) -> Manifest:
        """Why the container does not run, in the kubelet's words; empty if it runs."""
        return (self.container.get("state") or {}).get("waiting") or {}

    @property
    def terminated(self) -> Manifest:
        """How the container ended last; empty if it never did."""
        states = (self.container.get("state") or {}, self.container.get("lastState") or {})
        return next((state["terminated"] for state in states if state.get("terminated")), {})


def owned(worker: Identity, observed: Observed) -> Observed:
    """What of the observed belongs to `worker`; others may use the same name or labels."""

    def mine(child: Manifest | None) -> Manifest | None:
        controller = names.controller_of(child) if child else None
        return child if controller and controller.get("uid") == worker.uid else None

    taken = observed.deployment is not None and mine(observed.deployment) is None
    replica_sets = f"{names.child_name(worker)}-"
    return Observed(
        deployment=mine(observed.deployment),
        service=mine(observed.service),
        pods=tuple(
            pod
            for pod in observed.pods
            if not taken
            and (controller := names.controller_of(pod))
            and controller.get("kind") == "ReplicaSet"
            and str(controller.get("name")).startswith(replica_sets)
        ),
    )
