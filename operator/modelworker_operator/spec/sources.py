"""From `source` objects to values."""

from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec.reader import Reader
from modelworker_operator.spec.values import (
    HostPathSource,
    HuggingFaceSource,
    PvcSource,
    SecretKey,
    Source,
)


def source_of(source: Reader) -> Source:
    """Where a model comes from: exactly one member is set.

    Raises:
        InvalidSpec: none or several are, or a field of it is missing or wrong.
    """
    given = [key for key in ("huggingFace", "pvc", "hostPath") if source.has(key)]
    if len(given) != 1:
        raise InvalidSpec(
            f"{source.path} has {' and '.join(given) or 'no member'}; "
            "set exactly one of huggingFace, pvc, hostPath"
        )
    chosen = source.child(given[0])
    if given == ["huggingFace"]:
        return HuggingFaceSource(
            repo=chosen.required("repo"),
            revision=chosen.required("revision"),
            token=token_of(chosen) if chosen.has("tokenSecretRef") else None,
            endpoint=chosen.text("endpoint"),
        )
    if given == ["pvc"]:
        return PvcSource(claim_name=chosen.required("claimName"), path=folder_of(chosen))
    path = chosen.required("path")
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidSpec(f"{chosen.path}.path is {path!r}; set an absolute path without '..'")
    return HostPathSource(path=path)


def token_of(holder: Reader) -> SecretKey:
    """The `tokenSecretRef` of an object.

    Raises:
        InvalidSpec: it names no Secret.
    """
    token = holder.child("tokenSecretRef")
    return SecretKey(token.required("name"), token.text("key") or "token")


def folder_of(holder: Reader) -> str:
    """The `path` of an object, relative to the root of a volume; empty for the root.

    Raises:
        InvalidSpec: it leads out of the volume.
    """
    path = holder.text("path") or ""
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidSpec(f"{holder.path}.path is {path!r}; set a relative path without '..'")
    return path


def check_one_hub(first: Source, second: Source, path: str) -> None:
    """Two repositories share one hub and one token: a worker has a single variable for each.

    Raises:
        InvalidSpec: they name different ones; the message names `path`, the second's.
    """
    if not isinstance(first, HuggingFaceSource) or not isinstance(second, HuggingFaceSource):
        return
    if first.endpoint != second.endpoint:
        raise InvalidSpec(
            f"{path}.huggingFace.endpoint is not that of spec.model.source.huggingFace; "
            "set the same in both, or in neither"
        )
    if first.token and second.token and first.token != second.token:
        raise InvalidSpec(
            f"{path}.huggingFace.tokenSecretRef is not that of spec.model.source.huggingFace; "
            "name one Secret with a token that may read both repositories"
        )
