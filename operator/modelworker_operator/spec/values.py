"""What a custom resource is after it was read: frozen values, every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelworker_api import engine, kube, rewards
from modelworker_api.adapters import Adapter


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One key of a Secret in the object's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """A repository of a model hub, at a revision."""

    repo: str
    revision: str
    token: SecretKey | None
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class PvcSource:
    """A folder, relative to its root, of a PersistentVolumeClaim."""

    claim_name: str
    path: str


@dataclass(frozen=True, slots=True)
class HostPathSource:
    """A folder of the node."""

    path: str


Source = HuggingFaceSource | PvcSource | HostPathSource


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is served. `name` is the model name in requests."""

    name: str
    source: Source
    gguf_file: str | None
    dtype: str
    max_model_len: int | None
    """Longest prompt plus answer in tokens; of a reward model the longest input."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """GPUs of one worker."""

    count: int
    resource_name: str | None
    """What the nodes call them; None for the operator's setting."""


@dataclass(frozen=True, slots=True)
class ResourcesSpec:
    """Requests and limits of one worker as Kubernetes quantities."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SchedulingSpec:
    """Where pods may run; the values are those of a pod spec, handed on unchanged."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    affinity: Mapping[str, Any]
    topology_spread_constraints: tuple[Mapping[str, Any], ...]
    priority_class_name: str | None
    scheduler_name: str | None
    runtime_class_name: str | None


class AuthMode(StrEnum):
    """Whose calls a worker takes."""

    TOKEN = "Token"  # noqa: S105 - no password
    NONE = "None"


@dataclass(frozen=True, slots=True)
class HeartbeatSpec:
    """How often a worker reports, and when its silence counts."""

    interval_seconds: int
    stale_after_seconds: int


@dataclass(frozen=True, slots=True)
class ConcurrencySpec:
    """Sequences or inputs that are worked on together, and requests that may wait for them."""

    max_running: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """The second model of an implicit reward."""

    source: Source
    gguf_file: str | None


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """How a reward model scores."""

    config: rewards.ScoringConfig
    """What the worker gets, but for its `reference`: the pod decides where that is."""
    reference: ReferenceSpec | None


@dataclass(frozen=True, slots=True)
class VLLMSpec:
    """How vLLM runs a model."""

    config: engine.VLLMConfig
    """What the worker gets."""
    development_token: SecretKey | None
    """Who may call the development routes; None without them."""
    shared_memory: str | None
    """Size of /dev/shm as a quantity; None for the container runtime's own."""
    adapters: tuple[Adapter, ...] | None
    """The LoRA adapters to serve; None where the engine takes none."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The spec of either kind."""

    model: ModelSpec
    vllm: VLLMSpec | None
    """Of backend VLLM; None for Transformers."""
    image: str | None
    image_pull_policy: str | None
    image_pull_secrets: tuple[str, ...]
    replicas: int
    gpu: GpuSpec
    resources: ResourcesSpec
    env: tuple[Mapping[str, Any], ...]
    scheduling: SchedulingSpec
    auth: AuthMode | None
    """None for the operator's setting."""
    heartbeat: HeartbeatSpec
    concurrency: ConcurrencySpec
    drain_timeout_seconds: int
    progress_deadline_seconds: int
    scoring: ScoringSpec | None
    """A RewardModel's; None for a ModelWorker."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where models come from: the model's own source, then its reference's if it has one."""
        reference = self.scoring.reference if self.scoring else None
        return (self.model.source, *((reference.source,) if reference else ()))


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of an object whatever its spec: enough to write a status."""

    kind: kube.Kind
    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerObject(Identity):
    """A ModelWorker or a RewardModel as read from the API server."""

    spec: WorkerSpec
