"""The pod template of a worker: pure."""

from collections.abc import Iterator
from posixpath import join
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator import names
from modelworker_operator.config import Config
from modelworker_operator.podsources import (
    Manifest,
    engine_variables,
    hub_variables,
    model_variables,
    mounts_of,
    scoring_text,
    secret_variables,
    volumes_of,
)
from modelworker_operator.policy import runs_model_code, takes_tokens
from modelworker_operator.spec import WorkerObject, WorkerSpec

__all__ = ["Manifest", "pod_template"]

COMMAND: Final = ("python", "-m", "modelworker_server")
TERMINATION_LOG: Final = "/dev/termination-log"
TOKEN_SECONDS: Final = 3600

PRE_STOP_SECONDS: Final = 5
"""Between the deletion of a pod and SIGTERM: clients see Draining and drop it first."""
KILL_MARGIN_SECONDS: Final = 15
"""Beyond the drain, for the process to end by itself before SIGKILL."""

_TMP, _TOKEN = "tmp", "heartbeat-token"
_TMP_DIR: Final = "/tmp"  # noqa: S108 - a volume: the root file system is read-only


_USER: Final = {"HOME": _TMP_DIR, "USER": kube.WORKER_CONTAINER}
"""Engines and compilers keep files below the home of a user whom they ask the name of, and the
image may know neither: a cluster may give pods users of its own."""


def pod_template(worker: WorkerObject, config: Config) -> Manifest:
    """The template that the Deployment makes pods from."""
    return {
        "metadata": {"labels": names.child_labels(worker)},
        "spec": {
            "automountServiceAccountToken": False,
            # The variables of a Service called "modelworker" would pass for our settings.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": PRE_STOP_SECONDS
            + worker.spec.drain_timeout_seconds
            + KILL_MARGIN_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(worker, config)],
            "volumes": _volumes(worker.spec),
            **_given(
                imagePullSecrets=[
                    {"name": name}
                    for name in worker.spec.image_pull_secrets or config.worker_image_pull_secrets
                ],
                **_scheduling(worker.spec, config),
            ),
        },
    }


def _container(worker: WorkerObject, config: Config) -> Manifest:
    spec = worker.spec
    return {
        "name": kube.WORKER_CONTAINER,
        "image": spec.image or config.worker_image,
        "command": list(COMMAND),
        "env": [*_environment(worker, config), *(dict(item) for item in spec.env)],
        "ports": [
            {
                "name": kube.WORKER_PORT_NAME,
                "containerPort": kube.WORKER_PORT,
                "protocol": "TCP",
            }
        ],
        # Imports of the model libraries can take minutes from a cold disk.
        "startupProbe": _probe("/healthz", period=2, failures=300),
        "readinessProbe": _probe("/readyz", period=2, failures=5),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(spec),
        **_given(imagePullPolicy=spec.image_pull_policy, resources=_resources(spec, config)),
    }


def _given(**fields: Any) -> Manifest:
    """The fields that have a value: what is not asked for is not owned."""
    return {key: value for key, value in fields.items() if value}


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": kube.WORKER_PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _environment(worker: WorkerObject, config: Config) -> Iterator[Manifest]:
    spec = worker.spec
    # The pod's fields come first: $(MODELWORKER_POD_IP) works only in later variables.
    yield _from_field("MODELWORKER_POD_NAME", "metadata.name")
    yield _from_field("MODELWORKER_POD_UID", "metadata.uid")
    yield _from_field("MODELWORKER_POD_IP", "status.podIP")
    values = {
        "MODELWORKER_NAME": worker.name,
        "MODELWORKER_NAMESPACE": worker.namespace,
        "MODELWORKER_SERVED_NAME": spec.model.name,
        **model_variables(spec.model),
        **hub_variables(spec),
        **engine_variables(spec),
        "MODELWORKER_DTYPE": spec.model.dtype,
        "MODELWORKER_MAX_MODEL_LEN": spec.model.max_model_len,
        "MODELWORKER_SCORING": scoring_text(spec.scoring) if spec.scoring else None,
        "MODELWORKER_MAX_RUNNING": spec.concurrency.max_running,
        "MODELWORKER_MAX_QUEUED": spec.concurrency.max_queued,
        "MODELWORKER_HOST": config.worker_bind_host,
        "MODELWORKER_PORT": kube.WORKER_PORT,
        "MODELWORKER_AUTH": "token" if takes_tokens(spec, config) else "none",
        "MODELWORKER_TRUST_REMOTE_CODE": "true" if runs_model_code(spec, config) else None,
        "MODELWORKER_HEARTBEAT_URL": config.heartbeat_url,
        "MODELWORKER_HEARTBEAT_INTERVAL_SECONDS": spec.heartbeat.interval_seconds,
        "MODELWORKER_HEARTBEAT_TOKEN_FILE": join(
            kube.HEARTBEAT_TOKEN_DIR, kube.HEARTBEAT_TOKEN_FILE
        ),
        "MODELWORKER_DRAIN_SECONDS": spec.drain_timeout_seconds,
        "MODELWORKER_TERMINATION_LOG": TERMINATION_LOG,
    }
    for name, value in values.items():
        if value is not None:
            yield {"name": name, "value": str(value)}
    yield from secret_variables(spec)
    theirs = {item["name"] for item in spec.env}
    for name, value in _USER.items():
        if name not in theirs:
            yield {"name": name, "value": value}
    if "cpu" in spec.resources.limits and "OMP_NUM_THREADS" not in theirs:
        yield {
            "name": "OMP_NUM_THREADS",
            "valueFrom": {
                "resourceFieldRef": {
                    "containerName": kube.WORKER_CONTAINER,
                    "resource": "limits.cpu",
                }
            },
        }


def _from_field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(spec: WorkerSpec, config: Config) -> Manifest:
    limits = dict(spec.resources.limits)
    if spec.gpu.count:
        name = spec.gpu.resource_name or config.worker_gpu_resource_name
        limits[name] = str(spec.gpu.count)
    return _given(requests=dict(spec.resources.requests), limits=limits)


def _mounts(spec: WorkerSpec) -> list[Manifest]:
    return [
        {"name": _TMP, "mountPath": _TMP_DIR},
        {"name": _TOKEN, "mountPath": kube.HEARTBEAT_TOKEN_DIR, "readOnly": True},
        *mounts_of(spec),
    ]


def _volumes(spec: WorkerSpec) -> list[Manifest]:
    token = {
        "audience": kube.HEARTBEAT_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
        "path": kube.HEARTBEAT_TOKEN_FILE,
    }
    return [
        {"name": _TMP, "emptyDir": {}},
        {"name": _TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}},
        *volumes_of(spec),
    ]


def _scheduling(spec: WorkerSpec, config: Config) -> Manifest:
    scheduling = spec.scheduling
    return {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [dict(item) for item in scheduling.tolerations],
        "affinity": dict(scheduling.affinity),
        "topologySpreadConstraints": [
            dict(item) for item in scheduling.topology_spread_constraints
        ],
        "priorityClassName": scheduling.priority_class_name,
        "schedulerName": scheduling.scheduler_name,
        "runtimeClassName": scheduling.runtime_class_name or config.worker_runtime_class,
    }
