"""Where one node is: its addresses and its files."""

from dataclasses import dataclass
from pathlib import Path

from modelworker_devcluster.layout import Layout, Ports

NODE_NAME = "node"
NODE_ADDRESS = "10.99.0.1"
OUTSIDE_ADDRESS = "10.99.0.2"
PREFIX_LENGTH = 24
POD_RANGE = "10.244.0.0/24"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"

# Nobody else is in the node's network.
PORTS = Ports(
    etcd=2379,
    etcd_peer=2380,
    api_server=6443,
    controller_manager=10257,
    scheduler=10259,
    host=NODE_ADDRESS,
)

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""As the node sees it; it is not on the machine's /run."""


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one node.

    Attributes:
        layout: those of its cluster.
        cgroup: the name of its control group.
    """

    layout: Layout
    cgroup: str

    def file(self, name: str) -> Path:
        """A file or folder of the node."""
        return self.layout.directory / "node" / name
