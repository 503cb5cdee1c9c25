"""From the raw custom resource to frozen values; nothing after this sees the raw object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator.errors import InvalidSpec

RESERVED_ENV_PREFIX: Final = "MODELWORKER_"
RESERVED_ENV: Final = frozenset(
    {"HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_DISABLE_IMPLICIT_TOKEN"}
)
"""Environment that the operator sets; a user's `env` may not name it."""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


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


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """GPUs of one worker."""

    count: int
    resource_name: str


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


@dataclass(frozen=True, slots=True)
class HeartbeatSpec:
    """How often a worker reports, and when its silence counts."""

    interval_seconds: int
    stale_after_seconds: int


@dataclass(frozen=True, slots=True)
class ConcurrencySpec:
    """Sequences decoded together, and requests that may wait for them."""

    max_running: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class ModelWorkerSpec:
    """A ModelWorker's spec with every default filled in."""

    model: ModelSpec
    backend: str
    image: str | None
    image_pull_policy: str | None
    image_pull_secrets: tuple[str, ...]
    replicas: int
    gpu: GpuSpec
    resources: ResourcesSpec
    env: tuple[Mapping[str, Any], ...]
    scheduling: SchedulingSpec
    heartbeat: HeartbeatSpec
    concurrency: ConcurrencySpec
    drain_timeout_seconds: int
    progress_deadline_seconds: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of an object whatever its spec: enough to write a status."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelWorker(Identity):
    """A ModelWorker object as read from the API server."""

    spec: ModelWorkerSpec


def identify(raw: Mapping[str, Any]) -> Identity:
    """The object without its spec; never fails on what the API server stores."""
    meta = raw.get("metadata") or {}
    return Identity(
        name=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        uid=meta.get("uid", ""),
        generation=int(meta.get("generation") or 0),
        resource_version=meta.get("resourceVersion", ""),
        status=raw.get("status") or {},
    )


def parse_modelworker(raw: Mapping[str, Any]) -> ModelWorker:
    """The object as frozen values; what the CRD would default is defaulted here too.

    Raises:
        InvalidSpec: a field is missing or out of range, which the CRD refuses for new
            objects but an object stored under an older CRD may have. The message names
            the field and says what to set; `identify` still works on such an object.
    """
    identity = identify(raw)
    if len(identity.name) > kube.MAX_NAME_LENGTH or not _NAME.fullmatch(identity.name):
        raise InvalidSpec(
            f"metadata.name {identity.name!r} must be lower-case letters, digits and '-', at most "
            f"{kube.MAX_NAME_LENGTH} characters; create the object again under such a name"
        )
    reader = _Reader(raw.get("spec") or {}, "spec")
    return ModelWorker(
        name=identity.name,
        namespace=identity.namespace,
        uid=identity.uid,
        generation=identity.generation,
        resource_version=identity.resource_version,
        status=identity.status,
        spec=_spec(reader, identity.name),
    )


class _Reader:
    """Reads one object of the spec and names the full path in what it raises."""

    def __init__(self, raw: Any, path: str) -> None:
        if not isinstance(raw, Mapping):
            raise InvalidSpec(f"{path} must be an object; correct it with `kubectl edit`")
        self._raw = raw
        self.path = path

    def has(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def child(self, key: str) -> "_Reader":
        return _Reader(self._raw.get(key) or {}, f"{self.path}.{key}")

    def text(self, key: str) -> str | None:
        value = self._raw.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidSpec(f"{self.path}.{key} must be a string, not {value!r}; correct it")
        return value or None

    def required(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise InvalidSpec(f"{self.path}.{key} is missing; set it")
        return value

    def choice(self, key: str, default: str, *others: str) -> str:
        value = self.text(key) or default
        if value not in (default, *others):
            allowed = ", ".join((default, *others))
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set one of {allowed}")
        return value

    def number(self, key: str, default: int, *, least: int = 0) -> int:
        value = self._raw.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set a whole number >= {least}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.child(key)
        return dict(value._raw)  # noqa: SLF001 - the same class

    def objects(self, key: str) -> tuple[Mapping[str, Any], ...]:
        value = self._raw.get(key) or ()
        if isinstance(value, str) or not all(isinstance(item, Mapping) for item in value):
            raise InvalidSpec(f"{self.path}.{key} must be a list of objects; correct it")
        return tuple(dict(item) for item in value)


def _spec(spec: _Reader, name: str) -> ModelWorkerSpec:
    model = spec.child("model")
    gpu = spec.child("gpu")
    heartbeat = spec.child("heartbeat")
    concurrency = spec.child("concurrency")
    return ModelWorkerSpec(
        model=ModelSpec(
            name=model.text("name") or name,
            source=_source(model.child("source")),
            gguf_file=model.text("ggufFile"),
            dtype=model.choice("dtype", "auto", "float16", "bfloat16", "float32"),
            max_model_len=model.number("maxModelLen", 0, least=1) or None,
        ),
        backend=spec.choice("backend", "Transformers"),
        image=spec.text("image"),
        image_pull_policy=spec.text("imagePullPolicy"),
        image_pull_secrets=tuple(
            _Reader(item, f"{spec.path}.imagePullSecrets[]").required("name")
            for item in spec.objects("imagePullSecrets")
        ),
        replicas=spec.number("replicas", 1),
        gpu=GpuSpec(gpu.number("count", 0), gpu.text("resourceName") or "nvidia.com/gpu"),
        resources=_resources(spec.child("resources")),
        env=_env(spec),
        scheduling=_scheduling(spec.child("scheduling")),
        heartbeat=HeartbeatSpec(
            heartbeat.number("intervalSeconds", 10, least=1),
            heartbeat.number("staleAfterSeconds", 45, least=1),
        ),
        concurrency=ConcurrencySpec(
            concurrency.number("maxRunning", 32, least=1), concurrency.number("maxQueued", 256)
        ),
        drain_timeout_seconds=spec.child("drain").number("timeoutSeconds", 60),
        progress_deadline_seconds=spec.child("rollout").number(
            "progressDeadlineSeconds", 3600, least=60
        ),
    )


def _source(source: _Reader) -> Source:
    given = [key for key in ("huggingFace", "pvc", "hostPath") if source.has(key)]
    if len(given) != 1:
        raise InvalidSpec(
            f"{source.path} has {' and '.join(given) or 'no member'}; "
            "set exactly one of huggingFace, pvc, hostPath"
        )
    chosen = source.child(given[0])
    if given == ["huggingFace"]:
        token = chosen.child("tokenSecretRef")
        return HuggingFaceSource(
            repo=chosen.required("repo"),
            revision=chosen.required("revision"),
            token=SecretKey(token.required("name"), token.text("key") or "token")
            if chosen.has("tokenSecretRef")
            else None,
            endpoint=chosen.text("endpoint"),
        )
    if given == ["pvc"]:
        path = chosen.text("path") or ""
        if path.startswith("/") or ".." in path.split("/"):
            raise InvalidSpec(f"{chosen.path}.path is {path!r}; set a relative path without '..'")
        return PvcSource(claim_name=chosen.required("claimName"), path=path)
    path = chosen.required("path")
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidSpec(f"{chosen.path}.path is {path!r}; set an absolute path without '..'")
    return HostPathSource(path=path)


def _resources(resources: _Reader) -> ResourcesSpec:
    def quantities(key: str) -> Mapping[str, str]:
        return {name: str(amount) for name, amount in resources.mapping(key).items()}

    return ResourcesSpec(requests=quantities("requests"), limits=quantities("limits"))


def _env(spec: _Reader) -> tuple[Mapping[str, Any], ...]:
    env = spec.objects("env")
    for item in env:
        name = _Reader(item, f"{spec.path}.env[]").required("name")
        if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIX):
            raise InvalidSpec(
                f"{spec.path}.env names {name}, which the operator sets; remove it from env"
            )
    return env


def _scheduling(scheduling: _Reader) -> SchedulingSpec:
    return SchedulingSpec(
        node_selector={k: str(v) for k, v in scheduling.mapping("nodeSelector").items()},
        tolerations=scheduling.objects("tolerations"),
        affinity=scheduling.mapping("affinity"),
        topology_spread_constraints=scheduling.objects("topologySpreadConstraints"),
        priority_class_name=scheduling.text("priorityClassName"),
        scheduler_name=scheduling.text("schedulerName"),
        runtime_class_name=scheduling.text("runtimeClassName"),
    )
