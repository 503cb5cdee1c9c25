"""`kubectl modelworker generate`: an object as YAML, checked as far as it can be here. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker.cli._failures import Code, Failure
from modelworker_api import kube
from modelworker_api.rewards import VLLM_FAMILIES, Family, ScoreType

OUTCOME_FAMILIES: Final = frozenset(
    {
        Family.RLHFLOW_ORM_MISTRAL,
        Family.RLHFLOW_ORM_DEEPSEEK,
        Family.QWEN_MATH_RM,
        Family.REASONFLUX_ORM,
        Family.OPENRLHF_RM,
        Family.SEQUENCE_CLASSIFIER,
        Family.ARMO_RM,
        Family.INTERNLM2_REWARD,
        Family.VERDICT,
    }
)
WITH_REFERENCE: Final = frozenset({Family.EURUS_PRM, Family.IMPLICIT_PRM})
VLLM: Final = "VLLM"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_CLAIM: Final = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_REPO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
MOST_REPLICAS: Final = 1000
MOST_GPUS: Final = 16


@dataclass(frozen=True, slots=True)
class Wish:
    """What the flags say; None where they say nothing."""

    name: str
    namespace: str | None = None
    model: str | None = None
    revision: str | None = None
    pvc: str | None = None
    path: str | None = None
    gguf: str | None = None
    token_secret: str | None = None
    backend: str | None = None
    dtype: str | None = None
    gpus: int | None = None
    replicas: int | None = None
    image: str | None = None
    auth: str | None = None
    reward: bool = False
    family: str | None = None
    type: str | None = None
    aggregation: str | None = None


def manifest(wish: Wish) -> dict[str, Any]:
    """The object.

    Raises:
        Failure: for what the API server would refuse, as far as it is known here.
    """
    _check(wish)
    kind = kube.REWARDMODEL if wish.reward else kube.MODELWORKER
    spec: dict[str, Any] = {
        "model": _given(source=_source(wish), ggufFile=wish.gguf, dtype=wish.dtype),
        **(_scoring(wish) if wish.reward else {}),
        **_given(
            backend=wish.backend,
            replicas=wish.replicas,
            gpu=None if wish.gpus is None else {"count": wish.gpus},
            image=wish.image,
            auth=None if wish.auth is None else {"mode": wish.auth},
        ),
    }
    return {
        "apiVersion": kube.API_VERSION,
        "kind": kind.kind,
        "metadata": _given(name=wish.name, namespace=wish.namespace),
        "spec": spec,
    }


def remarks(wish: Wish) -> list[str]:
    """What the author of such an object should know."""
    found = []
    if wish.model is not None and not _COMMIT.fullmatch(_revision(wish)):
        found.append(
            f"revision {_revision(wish)} may move; pin a commit with --revision for answers that "
            "can be repeated"
        )
    if not wish.gpus and wish.backend == VLLM:
        found.append("without --gpus vLLM needs an image for CPUs")
    return found


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _revision(wish: Wish) -> str:
    return wish.revision or "main"


def _source(wish: Wish) -> Mapping[str, Any]:
    if wish.pvc is not None:
        return {"pvc": _given(claimName=wish.pvc, path=wish.path)}
    secret = None if wish.token_secret is None else {"name": wish.token_secret}
    hub = _given(repo=wish.model, revision=_revision(wish), tokenSecretRef=secret)
    return {"huggingFace": hub}


def _scoring(wish: Wish) -> dict[str, Any]:
    family = Family(wish.family) if wish.family else None
    of_family = ScoreType.OUTCOME if family in OUTCOME_FAMILIES else ScoreType.PROCESS
    named = wish.type or (of_family.value if family not in (None, Family.AUTO) else None)
    return {"scoring": _given(type=named, family=wish.family, aggregation=wish.aggregation)}


def _check(wish: Wish) -> None:
    for wrong in (_of_identity(wish), _of_source(wish), _of_workers(wish), _of_scoring(wish)):
        if wrong is not None:
            raise Failure(wrong, Code.USAGE)


def _of_identity(wish: Wish) -> str | None:
    if len(wish.name) > kube.MAX_NAME_LENGTH or not _NAME.fullmatch(wish.name):
        return (
            f"{wish.name!r} can be no name: lower-case letters, digits and '-', at most "
            f"{kube.MAX_NAME_LENGTH} characters"
        )
    if wish.namespace is not None and not (
        _NAME.fullmatch(wish.namespace) and len(wish.namespace) <= 63
    ):
        return f"{wish.namespace!r} can be no namespace: lower-case letters, digits and '-'"
    return None


def _of_source(wish: Wish) -> str | None:  # noqa: PLR0911 - one sentence for each
    if (wish.model is None) == (wish.pvc is None):
        return "say where the model is: --model OWNER/NAME of the hub, or --pvc CLAIM"
    if wish.model is not None:
        if not _REPO.fullmatch(wish.model) or ".." in wish.model or len(wish.model) > 193:
            return (
                f"--model {wish.model!r} must be OWNER/NAME, such as "
                "HuggingFaceTB/SmolLM2-135M-Instruct"
            )
        if wish.path is not None:
            return "--path is a folder of --pvc; leave it out for a model of the hub"
        if not _REVISION.fullmatch(_revision(wish)) or ".." in _revision(wish):
            return f"--revision {wish.revision!r} must be a commit, tag or branch"
    else:
        for flag, value in (("--revision", wish.revision), ("--token-secret", wish.token_secret)):
            if value is not None:
                return f"{flag} is for --model, a model of the hub; leave it out"
        if not _CLAIM.fullmatch(wish.pvc or ""):
            return f"--pvc {wish.pvc!r} can be no name of a claim"
        path = wish.path or ""
        if path.startswith("/") or ".." in path.split("/") or _CONTROL.search(path):
            return f"--path {path!r} must be relative to the root of the volume, without '..'"
    if wish.gguf is not None and not re.fullmatch(r"[^/\x00-\x1f\x7f]+\.gguf", wish.gguf):
        return f"--gguf {wish.gguf!r} must be a file name that ends in .gguf"
    if wish.gguf is not None and wish.backend == VLLM:
        return "--gguf cannot be loaded with --backend VLLM; leave one out"
    return None


def _of_workers(wish: Wish) -> str | None:
    for flag, value, most in (
        ("--replicas", wish.replicas, MOST_REPLICAS),
        ("--gpus", wish.gpus, MOST_GPUS),
    ):
        if value is not None and not 0 <= value <= most:
            return f"{flag} must be 0 to {most}, not {value}"
    if wish.image is not None and not re.fullmatch(r"\S{1,512}", wish.image):
        return f"--image {wish.image!r} must be an image reference without spaces"
    return None


def _of_scoring(wish: Wish) -> str | None:  # noqa: PLR0911 - one sentence for each
    given = [
        flag
        for flag, value in (
            ("--family", wish.family),
            ("--type", wish.type),
            ("--aggregation", wish.aggregation),
        )
        if value is not None
    ]
    if not wish.reward:
        return f"{given[0]} is for a RewardModel; add --reward" if given else None
    family = Family(wish.family) if wish.family else Family.AUTO
    if family is Family.CUSTOM or family in WITH_REFERENCE:
        return (
            f"family {family} needs more than flags can say; examples/smollm2-prm.yaml and "
            "docs/rewardmodel.md show how it is written"
        )
    if family is Family.AUTO and wish.type is None:
        return "say --type Process or Outcome, or the --family that the checkpoint was trained for"
    of_family = ScoreType.OUTCOME if family in OUTCOME_FAMILIES else ScoreType.PROCESS
    if family is not Family.AUTO and wish.type not in (None, of_family.value):
        return f"family {family} is of --type {of_family.value}"
    type_ = wish.type or of_family.value
    if wish.aggregation is not None and type_ == ScoreType.OUTCOME:
        return "--aggregation is for type Process; an Outcome model gives one score"
    if wish.backend == VLLM and family not in VLLM_FAMILIES:
        return f"family {family} is not served exactly by --backend VLLM; use Transformers"
    return None
