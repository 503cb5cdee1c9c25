"""What a user of the command line chooses for a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelworker_devcluster.cluster import DevCluster


@dataclass(frozen=True, slots=True)
class Choices:
    """What a cluster is to have.

    Attributes:
        node: what to add to the node's capacity; None for no node.
        operator: whether to install the CRDs and run the operator.
    """

    node: Mapping[str, str] | None
    operator: bool

    def __str__(self) -> str:
        if self.node is None:
            node = "no node"
        else:
            added = ", ".join(f"{key}={value}" for key, value in self.node.items())
            node = f"a node with {added or 'nothing added'}"
        return f"{node} and {'an' if self.operator else 'no'} operator"

    def cluster(self, name: str | None = None, directory: Path | None = None) -> DevCluster:
        """A cluster like this; its operator is for `install_operator`, once it runs."""
        return DevCluster(name, kubelet=self.node is not None, node=self.node, directory=directory)
