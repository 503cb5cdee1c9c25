"""From `source` objects to values."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec.reader import Reader
from modelworker_operator.spec.values import (
    HostPathSource,
    HuggingFaceSource,
    PvcSource,
    SecretKey,
    Source,
)

_METADATA_HOSTS: Final = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES: Final = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200"))
)
"""Services of clouds that are not link-local and give away a node's credentials all the same."""


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
            endpoint=_endpoint(chosen),
        )
    if given == ["pvc"]:
        return PvcSource(claim_name=chosen.required("claimName"), path=folder_of(chosen))
    path = chosen.required("path")
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidSpec(f"{chosen.path}.path is {path!r}; set an absolute path without '..'")
    return HostPathSource(path=path)


def _endpoint(hub: Reader) -> str | None:
    """The base URL of a hub; None for the default."""
    text = hub.text("endpoint")
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise InvalidSpec(
            f"{hub.path}.endpoint is no URL of a hub; set one such as https://hub.example.com, "
            "without credentials"
        )
    if _is_metadata(host):
        raise InvalidSpec(
            f"{hub.path}.endpoint names {host}, where nodes get credentials or a form of address "
            "that could hide it; name the hub's own host"
        )
    return text


def _is_metadata(host: str) -> bool:
    """Whether the host is, or may be read as, an address that only the node itself should call."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # 0xa9fea9fe and 169.254.43518 are addresses to some libraries.
        number = re.search(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", host)
        return (
            number is not None
            or re.fullmatch(r"[a-z0-9_.-]+", host) is None
            or host.rstrip(".") in _METADATA_HOSTS
        )
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_link_local or address in _METADATA_ADDRESSES


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
