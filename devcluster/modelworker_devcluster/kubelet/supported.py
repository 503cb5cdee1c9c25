"""Which parts of a pod a process kubelet can honour: pure.

`_POD` lists every field that is honoured, or that only concerns the API server
and the scheduler. Any other field is refused as soon as it says something, so a
field that a later Kubernetes adds is refused too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Object

# The API server mounts it into every pod; nobody asked for it to be read-only.
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path


class _Any:
    """A field whose every value is fine."""


class _Only:
    """A field that may have these values and no other."""

    def __init__(self, *values: object) -> None:
        self.values = values


_Table: TypeAlias = Mapping[str, "_Any | _Only | _Table"]
_ANY = _Any()


def _table(*fields: str, **special: "_Any | _Only | _Table") -> _Table:
    return {**dict.fromkeys(fields, _ANY), **special}


_KEY_REFERENCE = _table("name", "key", "optional")
_REFERENCE = _table("name", "optional")
_FIELD = _table("fieldPath", "apiVersion")
_RESOURCE_FIELD = _table("containerName", "resource", "divisor")
_HTTP = _table("path", "port", "host", "scheme", "httpHeaders")
_EXEC = _table("command")
_ITEMS = _table("key", "path", "mode")
_DOWNWARD_ITEMS = _table("path", "mode", fieldRef=_FIELD, resourceFieldRef=_RESOURCE_FIELD)

_PROBE = _table(
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
    exec=_EXEC,
    httpGet=_HTTP,
    tcpSocket=_table("host", "port"),
)
_MOUNT = _table(
    "name",
    "mountPath",
    "readOnly",
    "subPath",
    mountPropagation=_Only("None"),
    recursiveReadOnly=_Only("Disabled"),
)
_CONTAINER = _table(
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "resizePolicy",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    resources=_table("limits", "requests"),
    ports=_table("name", "containerPort", "protocol"),
    envFrom=_table("prefix", configMapRef=_REFERENCE, secretRef=_REFERENCE),
    env=_table(
        "name",
        "value",
        valueFrom=_table(
            fieldRef=_FIELD,
            resourceFieldRef=_RESOURCE_FIELD,
            configMapKeyRef=_KEY_REFERENCE,
            secretKeyRef=_KEY_REFERENCE,
        ),
    ),
    volumeMounts=_MOUNT,
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    startupProbe=_PROBE,
    lifecycle=_table(
        postStart=_table(exec=_EXEC, httpGet=_HTTP, sleep=_ANY),
        preStop=_table(exec=_EXEC, httpGet=_HTTP, sleep=_ANY),
    ),
)
_VOLUME = _table(
    "name",
    emptyDir=_table("medium", "sizeLimit"),
    configMap=_table("name", "optional", "defaultMode", items=_ITEMS),
    secret=_table("secretName", "optional", "defaultMode", items=_ITEMS),
    hostPath=_table("path", "type"),
    persistentVolumeClaim=_table("claimName", "readOnly"),
    downwardAPI=_table("defaultMode", items=_DOWNWARD_ITEMS),
    projected=_table(
        "defaultMode",
        sources=_table(
            configMap=_table("name", "optional", items=_ITEMS),
            secret=_table("name", "optional", items=_ITEMS),
            downwardAPI=_table(items=_DOWNWARD_ITEMS),
            serviceAccountToken=_table("audience", "expirationSeconds", "path"),
        ),
    ),
)
_POD = _table(
    # Honoured.
    "ephemeralContainers",  # come later than the pod, and are refused in their own status
    "enableServiceLinks",  # services have no address here, so there is nothing to link
    "hostname",
    "imagePullSecrets",
    "nodeName",
    "restartPolicy",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "shareProcessNamespace",  # processes of one host see one another anyway
    "terminationGracePeriodSeconds",
    # The business of the API server and the scheduler.
    "affinity",
    "automountServiceAccountToken",
    "dnsPolicy",
    "hostUsers",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "tolerations",
    "topologySpreadConstraints",
    os=_table(name=_Only("linux")),
    resources=_table("limits", "requests"),
    containers=_CONTAINER,
    initContainers=_CONTAINER,
    volumes=_VOLUME,
)


def refusals(pod: Object) -> tuple[str, ...]:
    """The fields of a pod that cannot be honoured, as paths such as `spec.hostNetwork`."""
    return tuple(_refused(pod["spec"], _POD, "spec"))


def not_enforced(pod: Object) -> tuple[str, ...]:
    """The fields that limit or isolate containers, which nothing enforces on plain processes."""
    return tuple(_open(pod["spec"]))


def _refused(value: Any, allowed: "_Any | _Only | _Table", path: str) -> Iterator[str]:
    if isinstance(allowed, _Any) or not value:
        return
    if isinstance(allowed, _Only):
        if value not in allowed.values:
            yield f"{path}={value}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from _refused(item, allowed, f"{path}[{name}]")
    else:
        for key, inner in value.items():
            if key in allowed:
                yield from _refused(inner, allowed[key], f"{path}.{key}")
            # `emptyDir: {}` says something, `hostNetwork: false` does not.
            elif inner or isinstance(inner, dict):
                yield f"{path}.{key}"


def _open(spec: Object) -> Iterator[str]:
    yield from (f"spec.securityContext.{key}" for key in spec.get("securityContext", {}))
    yield from (f"spec.resources.limits.{key}" for key in _limits(spec))
    if spec.get("hostUsers") is False:
        yield "spec.hostUsers"
    for field in ("initContainers", "containers"):
        for container in spec.get(field, []):
            path = f"spec.{field}[{container['name']}]"
            yield from (f"{path}.securityContext.{k}" for k in container.get("securityContext", {}))
            yield from (f"{path}.resources.limits.{key}" for key in _limits(container))
            for mount in container.get("volumeMounts", []):
                if mount.get("readOnly") and mount["mountPath"] != _TOKEN_PATH:
                    yield f"{path}.volumeMounts[{mount['mountPath']}].readOnly"
    for volume in spec.get("volumes", []):
        path = f"spec.volumes[{volume['name']}]"
        yield from (f"{path}.emptyDir.{key}" for key in volume.get("emptyDir", {}))
        if volume.get("persistentVolumeClaim", {}).get("readOnly"):
            yield f"{path}.persistentVolumeClaim.readOnly"


def _limits(owner: Object) -> Iterator[str]:
    limits = owner.get("resources", {}).get("limits", {})
    return (key for key in limits if key != names.GPU_RESOURCE)
