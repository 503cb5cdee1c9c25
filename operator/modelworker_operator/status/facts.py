"""What the conditions are decided from, and the form of a decision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelworker_api import kube
from modelworker_operator.podspec import Manifest
from modelworker_operator.spec import Identity, WorkerSpec
from modelworker_operator.status.values import Problem, condition_of, quote
from modelworker_operator.status.workers import Worker

Truth = Literal["True", "False", "Unknown"]

_LONGEST_PROBLEM: Final = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times."""

    status: Truth
    reason: kube.Reason
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the conditions are decided from."""

    worker: Identity
    spec: WorkerSpec | None
    deployment: Manifest | None
    workers: tuple[Worker, ...]
    problem: Problem | None

    @property
    def refusal(self) -> Verdict | None:
        """The problem as a verdict, short enough for an Event."""
        if not self.problem:
            return None
        return Verdict("False", self.problem.reason, quote(self.problem.message, _LONGEST_PROBLEM))

    @property
    def desired(self) -> int:
        """Replicas asked for."""
        if self.spec:
            return self.spec.replicas
        return int((self.deployment or {}).get("spec", {}).get("replicas") or 0)

    @property
    def ready(self) -> int:
        """Workers that can be called."""
        return sum(one.pod.ready for one in self.workers)

    @property
    def waiting(self) -> tuple[Worker, ...]:
        """Workers that are still to become ready."""
        waiting = tuple(one for one in self.workers if not one.pod.ready and not one.pod.deleted)
        # A pod that is over is replaced: it tells something only while it is the only one.
        return tuple(one for one in waiting if not one.pod.ended) or waiting

    @property
    def rolled_out(self) -> bool:
        """Whether every pod is of the newest template, and none is missing or too many."""
        counts = self.counts
        return bool(
            self.is_current
            and counts.get("updatedReplicas", 0) == counts.get("replicas", 0) == self.desired
        )

    @property
    def is_current(self) -> bool:
        """Whether the Deployment's status speaks of its newest spec."""
        if not self.deployment:
            return False
        generation = self.deployment["metadata"].get("generation", 0)
        return bool(self.counts.get("observedGeneration", 0) >= generation)

    @property
    def counts(self) -> Mapping[str, Any]:
        """The Deployment's own status."""
        return (self.deployment or {}).get("status") or {}

    def progress_is(self, reason: str) -> bool:
        """Whether the Deployment gives this reason for how its rollout goes."""
        said = condition_of(self.counts, "Progressing").get("reason")
        return self.is_current and said == reason

    @property
    def deadline_exceeded(self) -> bool:
        """Whether the Deployment gave up waiting for its pods."""
        return self.progress_is("ProgressDeadlineExceeded")
