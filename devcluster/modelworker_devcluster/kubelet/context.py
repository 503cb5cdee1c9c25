"""What the parts that run pods share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

from modelworker_devcluster.kubelet.addresses import Addresses
from modelworker_devcluster.kubelet.api import Api, Object
from modelworker_devcluster.kubelet.environment import Facts
from modelworker_devcluster.kubelet.events import Events
from modelworker_devcluster.kubelet.gpus import Gpus
from modelworker_devcluster.kubelet.probes import Prober
from modelworker_devcluster.kubelet.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line of the kubelet.

    Attributes:
        node_name: the name of the node.
        directory: everything the kubelet writes.
        capacity: of the node, as quantities.
        images: patterns of the images that exist.
        backoff_seconds: the first delay between restarts of a container that crashes.
    """

    node_name: str
    directory: Path
    capacity: Mapping[str, str]
    images: tuple[str, ...]
    backoff_seconds: float


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all pods share."""

    settings: Settings
    api: Api
    events: Events
    prober: Prober
    gpus: Gpus
    addresses: Addresses
    clock: Callable[[], datetime]


@dataclass(slots=True)
class PodContext:
    """What the containers of one pod share.

    Attributes:
        node: what all pods share.
        volumes: of this pod; they hold the facts about it, too.
        folder: where everything of the pod is.
        temporary: a short path to the pod's /tmp.
        gpus: the GPUs of each container.
    """

    node: NodeContext
    volumes: Volumes
    folder: Path
    temporary: Path
    gpus: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """The pod as it is now."""
        return self.volumes.facts

    @property
    def pod(self) -> Object:
        """The pod object as it is now."""
        return self.facts.pod

    def container(self, name: str) -> Object:
        """The specification of a container as it is now."""
        spec = self.pod["spec"]
        everyone = [*spec["containers"], *spec.get("initContainers", [])]
        return cast("Object", next(one for one in everyone if one["name"] == name))

    @property
    def grace_seconds(self) -> float:
        """How long the pod's containers may take to end."""
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
