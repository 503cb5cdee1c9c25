"""The command line of each process of the control plane, as values."""

import sys
from collections.abc import Mapping
from pathlib import Path

from modelworker_devcluster.layout import LOOPBACK, Layout, Ports

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
KUBELET = "kubelet"

NODE_NAME = "devcluster"
STORAGE_CLASS = "devcluster"
STORAGE_PROVISIONER = "devcluster.modelworker.dev/folder"

SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE_IP = "10.96.0.1"
SERVING_HOSTS = (
    LOOPBACK,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    FIRST_SERVICE_IP,
)

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Metadata
"""


def etcd(binaries: Path, layout: Layout, ports: Ports) -> list[str]:
    """The command line of etcd."""
    peer = f"https://{LOOPBACK}:{ports.etcd_peer}"
    client = f"https://{LOOPBACK}:{ports.etcd}"
    tls = {"cert-file": "serving.crt", "key-file": "serving.key", "trusted-ca-file": "ca.crt"}
    return [
        str(binaries / ETCD),
        "--name=devcluster",
        f"--data-dir={layout.etcd}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        "--client-cert-auth",
        "--peer-client-cert-auth",
        *(f"--{flag}={layout.pki(file)}" for flag, file in tls.items()),
        *(f"--peer-{flag}={layout.pki(file)}" for flag, file in tls.items()),
        # A crash of a process loses nothing; only a crash of the machine can.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(binaries: Path, layout: Layout, ports: Ports) -> list[str]:
    """The command line of kube-apiserver."""
    return [
        str(binaries / API_SERVER),
        f"--etcd-servers=https://{LOOPBACK}:{ports.etcd}",
        f"--etcd-cafile={layout.pki('ca.crt')}",
        f"--etcd-certfile={layout.pki('serving.crt')}",
        f"--etcd-keyfile={layout.pki('serving.key')}",
        f"--bind-address={ports.host}",
        f"--advertise-address={ports.host}",
        f"--secure-port={ports.api_server}",
        # A loopback address is refused as an endpoint of the `kubernetes` service.
        f"--endpoint-reconciler-type={'none' if ports.host == LOOPBACK else 'lease'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        *_serving(layout),
        f"--client-ca-file={layout.pki('ca.crt')}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={layout.pki('service-account.pub')}",
        f"--service-account-signing-key-file={layout.pki('service-account.key')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
        "--profiling=false",
    ]


def controller_manager(binaries: Path, layout: Layout, ports: Ports) -> list[str]:
    """The command line of kube-controller-manager."""
    return [
        str(binaries / CONTROLLER_MANAGER),
        f"--kubeconfig={layout.pki('controller-manager.kubeconfig')}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.controller_manager}",
        *_serving(layout),
        f"--service-account-private-key-file={layout.pki('service-account.key')}",
        f"--root-ca-file={layout.pki('ca.crt')}",
        "--leader-elect=false",
        # The defaults (20 requests a second) would be what benchmarks measure.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--node-monitor-period=2s",
        "--controller-shutdown-timeout=2s",
        "--profiling=false",
    ]


def scheduler(binaries: Path, layout: Layout, ports: Ports) -> list[str]:
    """The command line of kube-scheduler."""
    return [
        str(binaries / SCHEDULER),
        f"--kubeconfig={layout.pki('scheduler.kubeconfig')}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.scheduler}",
        *_serving(layout),
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def kubelet(layout: Layout, capacity: Mapping[str, str]) -> list[str]:
    """The command line of the process kubelet."""
    # The administrator's kubeconfig: it makes persistent volumes too, which a
    # node's own identity may not.
    return [
        sys.executable,
        "-m",
        "modelworker_devcluster.kubelet",
        "--kubeconfig",
        str(layout.kubeconfig),
        "--directory",
        str(layout.kubelet),
        "--node-name",
        NODE_NAME,
        *(part for key, value in capacity.items() for part in ("--capacity", f"{key}={value}")),
    ]


def _serving(layout: Layout) -> tuple[str, str]:
    return (
        f"--tls-cert-file={layout.pki('serving.crt')}",
        f"--tls-private-key-file={layout.pki('serving.key')}",
    )
