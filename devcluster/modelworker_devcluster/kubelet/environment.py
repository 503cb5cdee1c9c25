"""Environment variables, command lines and paths of containers: pure."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Object

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_LABEL_OR_ANNOTATION = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


_amount: Callable[[str], Decimal] = parse_quantity


class ConfigError(Exception):
    """A container cannot be configured now; the message is for its status."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a path of the container really is."""

    path: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pod can learn about itself and its node.

    Attributes:
        pod: the pod object.
        pod_ip: its address.
        node_name: the node's name.
        allocatable: the node's resources.
    """

    pod: Object
    pod_ip: str
    node_name: str
    allocatable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    field: str


_CONFIG_MAP = _Kind("ConfigMap", "configMap")
_SECRET = _Kind("Secret", "secret")


@dataclass(frozen=True, slots=True)
class Sources:
    """The ConfigMaps and Secrets that were found, by name: their data as text."""

    config_maps: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by a variable and `$$` by `$`; unknown names stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else variables.get(name, match[0])

    return _REFERENCE.sub(value, text)


def rewrite(text: str, mounts: Iterable[Mount]) -> str:
    """Replace the longest mount path that `text` begins with by the mount's folder.

    In a JSON object every string is such a text: containers are told paths in that form too.
    """
    ordered = sorted(mounts, key=lambda mount: len(mount.path), reverse=True)
    if text.startswith("{") and (parsed := _parsed(text)) is not None:
        rewritten = _rewritten(parsed, ordered)
        return text if rewritten == parsed else json.dumps(rewritten)
    return _rewritten_path(text, ordered)


def _parsed(text: str) -> Object | None:
    try:
        parsed: Object = json.loads(text)
    except ValueError:
        return None
    return parsed


def _rewritten(value: Any, mounts: Sequence[Mount]) -> Any:
    match value:
        case str():
            return _rewritten_path(value, mounts)
        case dict():
            return {key: _rewritten(one, mounts) for key, one in value.items()}
        case list():
            return [_rewritten(one, mounts) for one in value]
    return value


def _rewritten_path(text: str, mounts: Sequence[Mount]) -> str:
    for mount in mounts:
        path = mount.path.rstrip("/")
        if text and (text == path or text.startswith(f"{path}/")):
            return str(mount.folder) + text[len(path) :]
    return text


def variables(facts: Facts, container: Object, sources: Sources) -> dict[str, str]:
    """The variables that a container's `envFrom` and `env` define, in order, expanded.

    Raises:
        ConfigError: a ConfigMap, Secret or key that is not optional is missing.
    """
    result: dict[str, str] = {}
    for source in container.get("envFrom", []):
        for kind in (_CONFIG_MAP, _SECRET):
            if reference := source.get(f"{kind.field}Ref"):
                prefix = source.get("prefix", "")
                data = _data(reference, kind, sources)
                result |= {prefix + key: value for key, value in data.items()}
    for entry in container.get("env", []):
        if "valueFrom" in entry:
            value = _referenced(facts, container, entry, sources)
        else:
            value = expand(entry.get("value", ""), result)
        if value is not None:
            result[entry["name"]] = value
    return result


def references(container: Object) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the ConfigMaps and of the Secrets that a container's environment reads."""
    sources = [
        *container.get("envFrom", []),
        *(entry.get("valueFrom", {}) for entry in container.get("env", [])),
    ]

    def of(*fields: str) -> frozenset[str]:
        return frozenset(
            source[field]["name"] for source in sources for field in fields if field in source
        )

    return of("configMapRef", "configMapKeyRef"), of("secretRef", "secretKeyRef")


def command_line(container: Object, defined: Mapping[str, str]) -> list[str]:
    """The container's command and arguments, expanded."""
    words = [*container.get("command", []), *container.get("args", [])]
    return [expand(word, defined) for word in words]


def field_value(facts: Facts, path: str) -> str:
    """The value of a downward API field.

    Raises:
        ConfigError: the field is not one that pods can ask for.
    """
    metadata = facts.pod["metadata"]
    if match := _LABEL_OR_ANNOTATION.fullmatch(path):
        return str(metadata.get(match[1], {}).get(match[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f"{key}={_quoted(entries[key])}" for key in sorted(entries))
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": facts.pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
        "status.hostIP": names.NODE_IP,
        "status.hostIPs": names.NODE_IP,
    }
    if path not in plain:
        raise ConfigError(f"unsupported fieldPath {path}; supported are {', '.join(plain)}")
    return str(plain[path])


def resource_value(facts: Facts, reference: Object, own: str) -> str:
    """The value of a `resourceFieldRef`, rounded up to the divisor.

    A limit that is not set is the node's allocatable amount, as on a real node.

    Args:
        facts: of the pod.
        reference: the `resourceFieldRef`.
        own: the container it is about when it names none.

    Raises:
        ConfigError: the container it names does not exist.
    """
    spec = facts.pod["spec"]
    name = reference.get("containerName") or own
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    container = next((one for one in containers if one["name"] == name), None)
    if container is None:
        raise ConfigError(f"container {name} of resourceFieldRef not found")
    kind, resource = reference["resource"].split(".", 1)
    amounts = container.get("resources", {}).get(kind, {})
    default = facts.allocatable.get(resource, "0") if kind == "limits" else "0"
    # The API server stores an unset divisor as "0".
    divisor = _amount(reference.get("divisor", "1")) or 1
    return str(math.ceil(_amount(amounts.get(resource, default)) / divisor))


def search_path(interpreter: Path) -> str:
    """The PATH of containers: the interpreter's folder before the usual ones."""
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{interpreter.parent}:{usual}"


def _data(reference: Object, kind: _Kind, sources: Sources) -> Mapping[str, str]:
    name = reference["name"]
    found = sources.config_maps if kind is _CONFIG_MAP else sources.secrets
    if name in found:
        return found[name]
    if reference.get("optional"):
        return {}
    raise ConfigError(f'{kind.field.lower()} "{name}" not found')


def _referenced(facts: Facts, container: Object, entry: Object, sources: Sources) -> str | None:
    source = entry["valueFrom"]
    if reference := source.get("fieldRef"):
        return field_value(facts, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return resource_value(facts, reference, container["name"])
    kind = _CONFIG_MAP if "configMapKeyRef" in source else _SECRET
    reference = source[f"{kind.field}KeyRef"]
    data = _data(reference, kind, sources)
    if reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    namespace = facts.pod["metadata"]["namespace"]
    raise ConfigError(
        f"couldn't find key {reference['key']} in {kind.name} {namespace}/{reference['name']}"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
