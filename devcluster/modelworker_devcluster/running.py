"""The processes of one cluster that runs, and the order in which they come and go."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from modelworker_devcluster import components, files, pki, settings
from modelworker_devcluster.api import Api
from modelworker_devcluster.components import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    KUBELET,
    SCHEDULER,
)
from modelworker_devcluster.errors import DevClusterError, StartFailed
from modelworker_devcluster.layout import LOOPBACK, Layout, Ports
from modelworker_devcluster.operators import OPERATOR
from modelworker_devcluster.processes import Processes
from modelworker_devcluster.waiting import await_process

Progress = Callable[[str], None]

_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"

# An API server without its etcd hangs in its graceful end: etcd goes last.
_STOP_ORDER: tuple[tuple[tuple[str, ...], float], ...] = (
    ((OPERATOR,), 10.0),
    ((KUBELET,), 30.0),
    ((SCHEDULER, CONTROLLER_MANAGER), 5.0),
    ((API_SERVER,), 5.0),
    ((ETCD,), 5.0),
)


class RunningCluster:
    """The processes of one cluster.

    Attributes:
        layout: its files.
        binaries: the folder with its binaries.
        ports: its ports.
        api: its API server.
        processes: what started its processes.
        pids: the process id of each component.
    """

    def __init__(
        self,
        layout: Layout,
        authority: pki.Authority,
        *,
        binaries: Path,
        context: str,
        processes: Processes,
    ) -> None:
        self.layout = layout
        self.binaries = binaries
        self.processes = processes
        self.pids: dict[str, int] = {}
        self._environment = {"TMPDIR": str(layout.temporary)}
        self._authority = authority
        self._context = context
        self._choose_ports()

    def start_control_plane(self, say: Progress) -> None:
        """Start everything but the node, and return when pods can be created.

        Raises:
            StartFailed: a component ended or was not ready in time.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_control_plane(say)
            except StartFailed as error:
                # Another process may take a port between our look and the bind.
                if attempt == _ATTEMPTS or _PORT_TAKEN not in str(error):
                    raise
                self._stop_components()
                shutil.rmtree(self.layout.etcd, ignore_errors=True)
                self.api.close()
                self._choose_ports()
            else:
                return

    def start_api_server(self) -> None:
        """Start the API server on its port, and return when it is ready.

        Raises:
            StartFailed: it ended or was not ready in time.
            DevClusterError: it runs.
        """
        self._start(API_SERVER, components.api_server)
        self._await_answer("/readyz", API_SERVER)

    def start_kubelet(self, capacity: Mapping[str, str], say: Progress) -> None:
        """Start the node, and return when pods can run on it.

        Raises:
            StartFailed: the kubelet ended or the node was not ready in time.
        """
        say("starting the node")
        self.pids[KUBELET] = self.processes.start(
            KUBELET,
            components.kubelet(self.layout, capacity),
            log=self.layout.log(KUBELET),
            env=settings.package_environment(self._environment),
        )
        self._await(self.api.node_is_ready, "ready node", KUBELET)

    def stop(self) -> None:
        """End all processes, in order; those that do not end in time are killed."""
        self.api.close()
        try:
            # It fails when the supervisor was killed, and then all is over already.
            with contextlib.suppress(DevClusterError):
                self._stop_components()
        finally:
            self.processes.close()

    def _choose_ports(self) -> None:
        self.ports = Ports.free()
        files.write_kubeconfigs(
            self.layout, self._authority, context=self._context, server=self.ports.server
        )
        self.api = Api(self.layout, self.ports.server)

    def _start_control_plane(self, say: Progress) -> None:
        ports = self.ports
        say("starting etcd")
        self._start(ETCD, components.etcd)
        self._await_answer(f"https://{LOOPBACK}:{ports.etcd}/health", ETCD)
        say("starting kube-apiserver")
        self._start(API_SERVER, components.api_server)
        # Not sooner: the controller-manager gives an API server ten seconds and ends.
        self._await_answer("/livez", API_SERVER)
        say("starting kube-controller-manager and kube-scheduler")
        self._start(CONTROLLER_MANAGER, components.controller_manager)
        self._start(SCHEDULER, components.scheduler)
        self._await_answer("/readyz", API_SERVER)
        self.api.apply_storage_class()
        for port, name in (
            (ports.controller_manager, CONTROLLER_MANAGER),
            (ports.scheduler, SCHEDULER),
        ):
            self._await_answer(f"https://{LOOPBACK}:{port}/healthz", name)
        self._await(self.api.has_service_account, "default service account", CONTROLLER_MANAGER)

    def _start(self, name: str, argv: Callable[[Path, Layout, Ports], list[str]]) -> None:
        self.pids[name] = self.processes.start(
            name,
            argv(self.binaries, self.layout, self.ports),
            log=self.layout.log(name),
            env=settings.environment(self._environment),
        )

    def _await_answer(self, url: str, name: str) -> None:
        self._await(lambda: self.api.answers(url), f"answer from {name}", name)

    def _await(self, probe: Callable[[], bool], what: str, name: str) -> None:
        await_process(probe, what, name, processes=self.processes, layout=self.layout)

    def _stop_components(self) -> None:
        for names, timeout in _STOP_ORDER:
            self.processes.stop(names, timeout=timeout)
