"""From the raw custom resource to frozen values; nothing after this sees the raw object."""

import re
from collections.abc import Mapping
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec.engine import check_scoring, engine_of
from modelworker_operator.spec.reader import Reader
from modelworker_operator.spec.scoring import scoring_of
from modelworker_operator.spec.sources import check_one_hub, source_of
from modelworker_operator.spec.values import (
    AuthMode,
    ConcurrencySpec,
    GpuSpec,
    HeartbeatSpec,
    HostPathSource,
    HuggingFaceSource,
    Identity,
    ModelSpec,
    PvcSource,
    ReferenceSpec,
    ResourcesSpec,
    SchedulingSpec,
    ScoringSpec,
    SecretKey,
    Source,
    VLLMSpec,
    WorkerObject,
    WorkerSpec,
)

__all__ = [
    "RESERVED_ENV",
    "RESERVED_ENV_PREFIX",
    "AuthMode",
    "HeartbeatSpec",
    "HostPathSource",
    "HuggingFaceSource",
    "Identity",
    "ModelSpec",
    "PvcSource",
    "ReferenceSpec",
    "ScoringSpec",
    "SecretKey",
    "Source",
    "VLLMSpec",
    "WorkerObject",
    "WorkerSpec",
    "identify",
    "parse",
]

RESERVED_ENV_PREFIX: Final = "MODELWORKER_"
RESERVED_ENV: Final = frozenset(
    {
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HOME",
        "HF_ENDPOINT",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    }
)
"""Environment that the operator sets; a user's `env` may not name it."""

AUTH_MODES: Final = {one.value: one for one in AuthMode}

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def identify(kind: kube.Kind, raw: Mapping[str, Any]) -> Identity:
    """The object without its spec; never fails on what the API server stores."""
    meta = raw.get("metadata") or {}
    return Identity(
        kind=kind,
        name=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        uid=meta.get("uid", ""),
        generation=int(meta.get("generation") or 0),
        resource_version=meta.get("resourceVersion", ""),
        status=raw.get("status") or {},
    )


def parse(kind: kube.Kind, raw: Mapping[str, Any]) -> WorkerObject:
    """The object as frozen values; what the CRD would default is defaulted here too.

    Raises:
        InvalidSpec: a field is missing or out of range, which the CRD refuses for new
            objects but an object stored under an older CRD may have. The message names
            the field and says what to set; `identify` still works on such an object.
    """
    identity = identify(kind, raw)
    if len(identity.name) > kube.MAX_NAME_LENGTH or not _NAME.fullmatch(identity.name):
        raise InvalidSpec(
            f"metadata.name {identity.name!r} must be lower-case letters, digits and '-', at most "
            f"{kube.MAX_NAME_LENGTH} characters; create the object again under such a name"
        )
    return WorkerObject(
        kind=kind,
        name=identity.name,
        namespace=identity.namespace,
        uid=identity.uid,
        generation=identity.generation,
        resource_version=identity.resource_version,
        status=identity.status,
        spec=_spec(identity, Reader(raw.get("spec") or {}, "spec")),
    )


def _spec(identity: Identity, spec: Reader) -> WorkerSpec:
    name, namespace = identity.name, identity.namespace
    scoring = scoring_of(spec.child("scoring")) if identity.kind == kube.REWARDMODEL else None
    model = _model(spec, name, scored=scoring is not None)
    if scoring and scoring.reference:
        path = f"{spec.path}.scoring.implicit.referenceModel.source"
        check_one_hub(model.source, scoring.reference.source, path)
    if scoring:
        check_scoring(spec, scoring.config)
    gpu = spec.child("gpu")
    gpus = gpu.number("count", 0)
    heartbeat = spec.child("heartbeat")
    concurrency = spec.child("concurrency")
    return WorkerSpec(
        model=model,
        vllm=engine_of(spec, model, {model.name, name, f"{namespace}/{name}"}, gpus=gpus),
        image=spec.text("image"),
        image_pull_policy=spec.text("imagePullPolicy"),
        image_pull_secrets=tuple(
            Reader(item, f"{spec.path}.imagePullSecrets[]").required("name")
            for item in spec.objects("imagePullSecrets")
        ),
        replicas=spec.number("replicas", 1),
        gpu=GpuSpec(gpus, gpu.text("resourceName")),
        resources=_resources(spec.child("resources")),
        env=_env(spec),
        scheduling=_scheduling(spec.child("scheduling")),
        auth=spec.child("auth").word("mode", AUTH_MODES),
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
        scoring=scoring,
    )


def _model(spec: Reader, name: str, *, scored: bool) -> ModelSpec:
    model = spec.child("model")
    longest, field = (spec.child("scoring"), "maxInputTokens") if scored else (model, "maxModelLen")
    return ModelSpec(
        name=model.text("name") or name,
        source=source_of(model.child("source")),
        gguf_file=model.text("ggufFile"),
        dtype=model.choice("dtype", "auto", "float16", "bfloat16", "float32"),
        max_model_len=longest.number(field, 0, least=1) or None,
    )


def _resources(resources: Reader) -> ResourcesSpec:
    def quantities(key: str) -> Mapping[str, str]:
        return {name: str(amount) for name, amount in resources.mapping(key).items()}

    return ResourcesSpec(requests=quantities("requests"), limits=quantities("limits"))


def _env(spec: Reader) -> tuple[Mapping[str, Any], ...]:
    env = spec.objects("env")
    for item in env:
        name = Reader(item, f"{spec.path}.env[]").required("name")
        if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIX):
            raise InvalidSpec(
                f"{spec.path}.env names {name}, which the operator sets; remove it from env"
            )
    return env


def _scheduling(scheduling: Reader) -> SchedulingSpec:
    return SchedulingSpec(
        node_selector={k: str(v) for k, v in scheduling.mapping("nodeSelector").items()},
        tolerations=scheduling.objects("tolerations"),
        affinity=scheduling.mapping("affinity"),
        topology_spread_constraints=scheduling.objects("topologySpreadConstraints"),
        priority_class_name=scheduling.text("priorityClassName"),
        scheduler_name=scheduling.text("schedulerName"),
        runtime_class_name=scheduling.text("runtimeClassName"),
    )
