"""Children as values: pure, same input same output."""

import hashlib
import json
from ipaddress import ip_address
from typing import Final

from modelworker_api import kube
from modelworker_operator import names
from modelworker_operator.config import Config
from modelworker_operator.podspec import Manifest, pod_template
from modelworker_operator.spec import WorkerObject

__all__ = ["MIN_READY_SECONDS", "Manifest", "desired_children", "leader_slice"]

MIN_READY_SECONDS: Final = 10
"""How long a new worker is Ready before it counts: clients find it before the old one goes."""


def desired_children(worker: WorkerObject, config: Config) -> tuple[Manifest, ...]:
    """Every object this worker owns, in apply order: the Deployment, then the Service."""
    return (_hashed(_deployment(worker, config)), _hashed(_service(worker)))


def leader_slice(config: Config, service_uid: str) -> Manifest:
    """The EndpointSlice that leads from the Service `config.publish_service` to this process.

    It is the Service's own, as that of a Service with a selector is: it goes with it.
    """
    ports = {kube.HEARTBEAT_PORT_NAME: config.heartbeat_port}
    if config.controller_port is not None:
        ports[kube.CONTROLLER_PORT_NAME] = config.controller_port
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": names.leader_slice_name(config.publish_service),
            "namespace": config.namespace,
            "labels": {
                kube.LABEL_MANAGED_BY: kube.MANAGED_BY,
                kube.LABEL_SERVICE: config.publish_service,
                kube.LABEL_SLICE_MANAGED_BY: kube.FIELD_MANAGER,
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": config.publish_service,
                    "uid": service_uid,
                }
            ],
        },
        "addressType": f"IPv{ip_address(config.pod_ip).version}",
        "endpoints": [{"addresses": [config.pod_ip], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()],
    }


def _deployment(worker: WorkerObject, config: Config) -> Manifest:
    # GPUs are seldom spare: the new worker gets the old one's. Else the new one comes first.
    surge, unavailable = (0, 1) if worker.spec.gpu.count else (1, 0)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(worker),
        "spec": {
            "replicas": worker.spec.replicas,
            "selector": {"matchLabels": names.selector_labels(worker)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": worker.spec.progress_deadline_seconds,
            "revisionHistoryLimit": 2,
            "template": pod_template(worker, config),
        },
    }


def _service(worker: WorkerObject) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(worker),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector_labels(worker),
            "ports": [
                {
                    "name": kube.WORKER_PORT_NAME,
                    "port": kube.WORKER_PORT,
                    "targetPort": kube.WORKER_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }


def _metadata(worker: WorkerObject) -> Manifest:
    return {
        "name": names.child_name(worker),
        "namespace": worker.namespace,
        "labels": names.child_labels(worker),
        "ownerReferences": [
            {
                "apiVersion": kube.API_VERSION,
                "kind": worker.kind.kind,
                "name": worker.name,
                "uid": worker.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _hashed(manifest: Manifest) -> Manifest:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = {
        **manifest["metadata"],
        "annotations": {kube.ANNOTATION_DESIRED_HASH: digest},
    }
    return {**manifest, "metadata": metadata}
