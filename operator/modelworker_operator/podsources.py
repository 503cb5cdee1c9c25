"""How models get into a pod: variables, volumes and mounts of their sources. Pure."""

import json
from collections.abc import Iterator, Mapping
from posixpath import join
from typing import Any, Final, Literal

from pydantic import BaseModel

from modelworker_api import kube, rewards
from modelworker_operator.spec import (
    HostPathSource,
    HuggingFaceSource,
    ModelSpec,
    PvcSource,
    ReferenceSpec,
    ScoringSpec,
    SecretKey,
    Source,
    WorkerSpec,
)

Manifest = dict[str, Any]

CACHE_DIR: Final = "/cache"
_MODEL, _REFERENCE, _CACHE, _SHARED_MEMORY = "model", "reference", "cache", "shared-memory"


def model_variables(model: ModelSpec) -> Mapping[str, str | None]:
    """Where the worker finds the model; None for what it is not told."""
    source = model.source
    return {
        "MODELWORKER_SOURCE": _word(source),
        "MODELWORKER_MODEL": _literal(_place(source, kube.MODEL_DIR)),
        "MODELWORKER_REVISION": _revision(source),
        "MODELWORKER_GGUF_FILE": _literal(model.gguf_file) if model.gguf_file else None,
    }


def hub_variables(spec: WorkerSpec) -> Mapping[str, str | None]:
    """The hub library's own variables; two repositories share them."""
    if not _downloads(spec):
        return {}
    hubs = _hubs(spec)
    return {
        "HF_HOME": join(CACHE_DIR, "huggingface"),
        "HF_ENDPOINT": hubs[0].endpoint if hubs else None,
        # Without it the hub library sends any token that it finds lying about.
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": None if any(hub.token for hub in hubs) else "1",
    }


def secret_variables(spec: WorkerSpec) -> Iterator[Manifest]:
    """The hub's token, and that of vLLM's development routes."""
    for token in [hub.token for hub in _hubs(spec) if hub.token][:1]:
        yield _secret("HF_TOKEN", token)
    if spec.vllm and spec.vllm.development_token:
        yield _secret("MODELWORKER_DEVELOPMENT_TOKEN", spec.vllm.development_token)


def scoring_text(scoring: ScoringSpec) -> str:
    """The worker's `--scoring`, the same for the same spec."""
    config = scoring.config
    if scoring.reference:
        config = config.model_copy(update={"reference": _reference(scoring.reference)})
    return _json_text(config)


def engine_variables(spec: WorkerSpec) -> Mapping[str, str | None]:
    """The engine that runs the model, and how vLLM does."""
    return {
        "MODELWORKER_BACKEND": "vllm" if spec.vllm else "transformers",
        "MODELWORKER_VLLM": _json_text(spec.vllm.config) if spec.vllm else None,
        "MODELWORKER_ADAPTER_DIR": kube.MODEL_DIR
        if _takes_adapters(spec) and not isinstance(spec.model.source, HuggingFaceSource)
        else None,
    }


def mounts_of(spec: WorkerSpec) -> Iterator[Manifest]:
    """The mounts of the sources, the cache of what comes from a hub, and shared memory."""
    if _downloads(spec):
        yield {"name": _CACHE, "mountPath": CACHE_DIR}
    for name, folder, source in _named(spec):
        if not isinstance(source, HuggingFaceSource):
            yield {"name": name, "mountPath": folder, "readOnly": True}
    if spec.vllm and spec.vllm.shared_memory:
        yield {"name": _SHARED_MEMORY, "mountPath": "/dev/shm"}  # noqa: S108 - by its name in Linux


def volumes_of(spec: WorkerSpec) -> Iterator[Manifest]:
    """The volumes of those mounts."""
    if _downloads(spec):
        yield {"name": _CACHE, "emptyDir": {}}
    for name, _, source in _named(spec):
        match source:
            case PvcSource():
                claim = {"claimName": source.claim_name, "readOnly": True}
                yield {"name": name, "persistentVolumeClaim": claim}
            case HostPathSource():
                yield {"name": name, "hostPath": {"path": source.path, "type": "Directory"}}
    if spec.vllm and spec.vllm.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": spec.vllm.shared_memory}
        yield {"name": _SHARED_MEMORY, "emptyDir": memory}


def _named(spec: WorkerSpec) -> Iterator[tuple[str, str, Source]]:
    """Name of the volume, folder of the mount, and the source of each model."""
    places = ((_MODEL, kube.MODEL_DIR), (_REFERENCE, kube.REFERENCE_DIR))
    for (name, folder), source in zip(places, spec.sources, strict=False):
        yield name, folder, source


def _hubs(spec: WorkerSpec) -> list[HuggingFaceSource]:
    return [source for source in spec.sources if isinstance(source, HuggingFaceSource)]


def _downloads(spec: WorkerSpec) -> bool:
    """Whether the worker may download: adapters of a hub come and go without a new pod."""
    return bool(_hubs(spec)) or _takes_adapters(spec)


def _takes_adapters(spec: WorkerSpec) -> bool:
    return spec.vllm is not None and spec.vllm.adapters is not None


def _secret(name: str, secret: SecretKey) -> Manifest:
    key = {"name": secret.name, "key": secret.key}
    return {"name": name, "valueFrom": {"secretKeyRef": key}}


def _json_text(config: BaseModel) -> str:
    """JSON without what is default, the same for the same config.

    It has no `$`, which Kubernetes would take for the start of a reference to a variable:
    `$$` in a template would become `$`.
    """
    given = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return text.replace("$", r"\u0024")


def _reference(reference: ReferenceSpec) -> rewards.ReferenceModel:
    return rewards.ReferenceModel(
        source=_word(reference.source),
        model=_place(reference.source, kube.REFERENCE_DIR),
        revision=_revision(reference.source),
        gguf_file=reference.gguf_file,
    )


def _literal(text: str) -> str:
    """The value of a variable that Kubernetes expands to `text`."""
    return text.replace("$", "$$")


def _word(source: Source) -> Literal["huggingFace", "local"]:
    return "huggingFace" if isinstance(source, HuggingFaceSource) else "local"


def _place(source: Source, folder: str) -> str:
    """The repository, or the folder in the container."""
    match source:
        case HuggingFaceSource():
            return source.repo
        case PvcSource():
            return join(folder, source.path).rstrip("/")
        case HostPathSource():
            return folder


def _revision(source: Source) -> str | None:
    return source.revision if isinstance(source, HuggingFaceSource) else None
