"""Clusters with a real node and real containers."""

from modelworker_devcluster.node.choice import choose
from modelworker_devcluster.node.cluster import RealNode
from modelworker_devcluster.node.face import Node
from modelworker_devcluster.node.kind import KindNode

__all__ = ["KindNode", "Node", "RealNode", "choose"]
