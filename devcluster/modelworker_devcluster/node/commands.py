"""The command line of each program of a node, as values."""

import sys
from collections.abc import Mapping
from pathlib import Path

from modelworker_devcluster import components, settings
from modelworker_devcluster.node.places import (
    CONTAINERD_SOCKET,
    NODE_ADDRESS,
    NODE_NAME,
    OUTSIDE_ADDRESS,
    PORTS,
    PREFIX_LENGTH,
    Places,
)

_INIT = settings.PACKAGE / "node" / "init.py"
_LINK = "outside"
"""The node's end of the link to the outside machine."""


def outside() -> list[str]:
    """Holds the network of the outside machine."""
    return ["unshare", "--net", "--", "sleep", "infinity"]


def node(places: Places, ready: Path) -> list[str]:
    """Holds the namespaces of the node; what runs there ends with it.

    Args:
        places: the node's files.
        ready: the file that says that the namespaces can be entered.
    """
    return [
        *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
        *(sys.executable, str(_INIT), str(ready), str(places.file("state"))),
    ]


def in_network(pid: int) -> list[str]:
    """What to put before a command so that it runs in the network of a process.

    `ip netns exec` would hide the control groups.
    """
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


def in_node(pid: int) -> list[str]:
    """What to put before a command so that it runs on the node.

    Args:
        pid: the process of `node`.
    """
    of = f"/proc/{pid}/ns"
    return ["nsenter", f"--net={of}/net", f"--mount={of}/mnt", f"--pid={of}/pid_for_children", "--"]


def links(node: int, outside: int) -> list[list[str]]:
    """What joins the two networks; the outside machine has no route beyond the link.

    Args:
        node: the process of `node`.
        outside: the process of `outside`.
    """
    ip_node, ip_outside = [*in_network(node), "ip"], [*in_network(outside), "ip"]
    pair = ["type", "veth", "peer", "name", "eth0", "netns", str(outside)]
    return [
        [*ip_node, "link", "add", _LINK, *pair],
        [*ip_node, "address", "add", f"{NODE_ADDRESS}/{PREFIX_LENGTH}", "dev", _LINK],
        [*ip_node, "link", "set", _LINK, "up"],
        [*ip_outside, "address", "add", f"{OUTSIDE_ADDRESS}/{PREFIX_LENGTH}", "dev", "eth0"],
        [*ip_outside, "link", "set", "lo", "up"],
        [*ip_outside, "link", "set", "eth0", "up"],
        # The node has no default route: a packet to a Service needs one to meet kube-proxy.
        [*ip_node, "route", "add", components.SERVICE_RANGE, "dev", _LINK],
    ]


def api_server(binaries: Path, places: Places) -> list[str]:
    """The command line of kube-apiserver, which reaches the kubelet."""
    layout = places.layout
    return [
        *components.api_server(binaries, layout, PORTS),
        f"--kubelet-certificate-authority={layout.pki('ca.crt')}",
        f"--kubelet-client-certificate={layout.pki('kubelet-client.crt')}",
        f"--kubelet-client-key={layout.pki('kubelet-client.key')}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def containerd(places: Places) -> list[str]:
    """The command line of containerd."""
    return ["containerd", f"--config={places.file('containerd.toml')}", "--log-level=warn"]


def import_image(archive: Path) -> list[str]:
    """Gives containerd the images of an archive."""
    return ["ctr", f"--address={CONTAINERD_SOCKET}", "-n=k8s.io", "images", "import", str(archive)]


def programs(binaries: Mapping[str, Path], places: Places) -> dict[str, list[str]]:
    """The command lines of kubelet, kube-proxy and coredns, by name.

    Args:
        binaries: the files of the commands.
        places: the node's files.
    """
    layout = places.layout
    return {
        "kubelet": [
            str(binaries["kubelet"]),
            f"--config={places.file('kubelet.json')}",
            f"--kubeconfig={layout.pki('kubelet.kubeconfig')}",
            f"--root-dir={layout.kubelet}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ],
        "kube-proxy": [
            str(binaries["kube-proxy"]),
            f"--config={places.file('kube-proxy.json')}",
        ],
        "coredns": [str(binaries["coredns"]), f"-conf={places.file('Corefile')}"],
    }
