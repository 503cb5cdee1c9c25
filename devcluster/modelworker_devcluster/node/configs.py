"""The configuration of each program of a node, as values."""

from pathlib import Path
from typing import Any

from modelworker_devcluster.node.places import (
    CONTAINERD_SOCKET,
    DNS_ADDRESS,
    DOMAIN,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    Places,
)

PAUSE_IMAGE = "localhost/modelworker-node:1"


def containerd(places: Places, plugins: Path) -> str:
    """The configuration of containerd.

    Args:
        places: the node's files.
        plugins: the folder with the CNI plugins.
    """
    return f"""\
version = 2
root = "{places.file("containerd")}"
state = "{Path(CONTAINERD_SOCKET).parent}"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without the capability SYS_RESOURCE, as in many a container, none may be lowered.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{places.file("cni")}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def network() -> dict[str, Any]:
    """The network of the pods, for CNI.

    Each pod is at the end of a link of its own, so that all traffic is routed. On a
    bridge, a pod that calls itself or its neighbour through a Service needs a kernel module.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipam": addresses}],
    }


def kubelet(places: Places) -> dict[str, Any]:
    """The configuration of the kubelet."""
    layout = places.layout
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki("kubelet.crt")),
        "tlsPrivateKeyFile": str(layout.pki("kubelet.key")),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{places.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # The kubelet may not shrink the cgroups of a machine that is not its own.
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        # Images come from files: one that was collected cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(places.file("resolv.conf")),
        "volumePluginDir": str(places.file("volume-plugins")),
        "makeIPTablesUtilChains": False,
        # The defaults are for nodes that must spare their API server.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }


def kube_proxy(places: Places) -> dict[str, Any]:
    """The configuration of kube-proxy."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(places.layout.pki("kube-proxy.kubeconfig"))},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_RANGE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # These are the whole machine's, and may not be set from a network of its own.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def coredns(places: Places) -> str:
    """The configuration of CoreDNS: there are no names but the cluster's."""
    return f"""\
{DOMAIN} in-addr.arpa {{
    bind {NODE_ADDRESS}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {places.layout.pki("coredns.kubeconfig")}
        pods insecure
        ttl 5
    }}
    loadbalance
}}
. {{
    bind {NODE_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
