"""The files of ConfigMap, Secret and downward API volumes: pure."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelworker_devcluster.kubelet.api import Object
from modelworker_devcluster.kubelet.environment import Facts, field_value, resource_value


class MountError(Exception):
    """A volume cannot be set up now; the message is for the pod's status."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a volume; `path` is relative to the volume."""

    path: str
    data: bytes
    mode: int


def decoded(kind: str, found: Object) -> dict[str, bytes]:
    """The data of a ConfigMap or a Secret (`kind`) by key."""
    text = {key: value.encode() for key, value in found.get("data", {}).items()}
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in text.items()}
    binary = found.get("binaryData", {})
    return text | {key: base64.b64decode(value) for key, value in binary.items()}


def key_files(
    source: Object, data: Mapping[str, bytes], *, name: str, mode: int
) -> tuple[File, ...]:
    """The files of a ConfigMap or Secret source: the keys it lists, or all.

    Args:
        source: the volume source, with `items` and `optional`.
        data: the keys and values there are.
        name: what the data is called in an error, such as `configmap "x"`.
        mode: permission bits of files that have none of their own.

    Raises:
        MountError: a listed key is missing and the source is not optional.
    """
    items: Sequence[Object] = source.get("items") or [{"key": key, "path": key} for key in data]
    files = []
    for item in items:
        if item["key"] in data:
            files.append(File(item["path"], data[item["key"]], item.get("mode", mode)))
        elif not source.get("optional"):
            raise MountError(f"{name} references non-existent key: {item['key']}")
    return tuple(files)


def downward_files(source: Object, facts: Facts, *, mode: int) -> tuple[File, ...]:
    """The files of a downward API source.

    Raises:
        ConfigError: an item asks for what there is not.
    """
    files = []
    for item in source.get("items", []):
        if reference := item.get("fieldRef"):
            text = field_value(facts, reference["fieldPath"])
        else:
            text = resource_value(facts, item["resourceFieldRef"], own="")
        files.append(File(item["path"], text.encode(), item.get("mode", mode)))
    return tuple(files)
