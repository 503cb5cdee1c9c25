"""The programs of a node and its control plane, and the order in which they start."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from modelworker_devcluster import components, settings
from modelworker_devcluster.commands import Completed, completed
from modelworker_devcluster.components import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    FIRST_SERVICE_IP,
    SCHEDULER,
)
from modelworker_devcluster.node import commands, manifests
from modelworker_devcluster.node.machine import Machines
from modelworker_devcluster.node.places import NODE_NAME, PORTS, Places
from modelworker_devcluster.processes import Processes
from modelworker_devcluster.running import Progress
from modelworker_devcluster.waiting import await_process

CONTAINERD = "containerd"
KUBELET = "kubelet"
KUBE_PROXY = "kube-proxy"
COREDNS = "coredns"


class RunningNode:
    """A node that runs, with its control plane.

    Attributes:
        places: its files.
        binaries: the folder with kubectl and the control plane.
        machines: the namespaces.
    """

    def __init__(self, places: Places, processes: Processes, *, binaries: Path) -> None:
        """Make the namespaces; `processes` ends all that is started here.

        Raises:
            StartFailed: this machine does not allow it.
        """
        self.places = places
        self.binaries = binaries
        self.processes = processes
        self.machines = Machines(places, processes)

    def start(self, node_binaries: Mapping[str, Path], say: Progress) -> None:
        """Start everything, and return when pods can run and Services answer.

        Raises:
            StartFailed: a program ended or was not ready in time.
        """
        machines, layout = self.machines, self.places.layout
        say("starting containerd")
        machines.start(CONTAINERD, machines.node(commands.containerd(self.places)))
        say("starting the control plane")
        network = machines.node_network
        machines.start(ETCD, network(components.etcd(self.binaries, layout, PORTS)))
        machines.start(API_SERVER, network(commands.api_server(self.binaries, self.places)))
        self._await_kubectl(API_SERVER, "get", "--raw=/livez")
        for name, argv in (
            (CONTROLLER_MANAGER, components.controller_manager(self.binaries, layout, PORTS)),
            (SCHEDULER, components.scheduler(self.binaries, layout, PORTS)),
        ):
            machines.start(name, network(argv))
        archive = self.places.file("pause.tar")
        self._await(lambda: self._imported(archive), "imported image", CONTAINERD)
        self._await_kubectl(API_SERVER, "get", "--raw=/readyz")
        say("starting the node")
        programs = commands.programs(node_binaries, self.places)
        machines.start(KUBELET, machines.node(programs[KUBELET]))
        machines.start(KUBE_PROXY, network(programs[KUBE_PROXY]))
        service = manifests.text(manifests.name_service())
        self._await_kubectl(API_SERVER, "apply", "--server-side", "-f", "-", stdin=service)
        machines.start(COREDNS, network(programs[COREDNS]))
        self._await(self._is_ready, "ready node", KUBELET)
        self._await(self._a_service_answers, "Service that answers", KUBE_PROXY)
        self._await_kubectl(CONTROLLER_MANAGER, "get", "serviceaccount/default", "-n=default")

    def import_image(self, archive: Path) -> None:
        """Give the node the images of an archive.

        Raises:
            StartFailed: containerd refuses them.
        """
        self.machines.check(self.machines.node(commands.import_image(archive)))

    def kubectl(self, *args: str, stdin: str = "") -> Completed:
        """Run kubectl as administrator, outside."""
        layout = self.places.layout
        own = {"KUBECONFIG": str(layout.kubeconfig), "KUBECACHEDIR": str(layout.kubectl_cache)}
        command = self.machines.outside([str(self.binaries / "kubectl"), *args])
        return completed(command, settings.environment(own), stdin)

    def _imported(self, archive: Path) -> bool:
        command = self.machines.node(commands.import_image(archive))
        return completed(command, settings.environment({})).returncode == 0

    def _a_service_answers(self) -> bool:
        connect = f"import socket; socket.create_connection(({FIRST_SERVICE_IP!r}, 443), 1)"
        command = self.machines.node_network([sys.executable, "-c", connect])
        return completed(command, settings.environment({})).returncode == 0

    def _is_ready(self) -> bool:
        done = self.kubectl("get", "node", NODE_NAME, "-o=json")
        if done.returncode != 0:
            return False
        node = json.loads(done.stdout)
        ready = {"type": "Ready", "status": "True"}.items()
        conditions = node["status"].get("conditions", [])
        return "taints" not in node["spec"] and any(ready <= one.items() for one in conditions)

    def _await_kubectl(self, name: str, *args: str, stdin: str = "") -> None:
        def answers() -> bool:
            return self.kubectl(*args, stdin=stdin).returncode == 0

        self._await(answers, f"success of kubectl {args[0]} {args[1]}", name)

    def _await(self, probe: Callable[[], bool], what: str, name: str) -> None:
        await_process(probe, what, name, processes=self.processes, layout=self.places.layout)
