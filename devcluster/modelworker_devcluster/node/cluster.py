"""A cluster with a real node as an object: the face of this package."""

import datetime
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from modelworker_devcluster import binaries
from modelworker_devcluster.commands import say_nothing
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import Layout
from modelworker_devcluster.node import cgroups, checks, files
from modelworker_devcluster.node.face import Node
from modelworker_devcluster.node.places import PORTS, Places
from modelworker_devcluster.node.running import RunningNode
from modelworker_devcluster.processes import Processes
from modelworker_devcluster.running import Progress


class RealNode(Node):
    """A control plane and one node with containerd, kubelet, kube-proxy and CoreDNS.

    All of it runs in namespaces of its own, with a second machine, the outside, that
    reaches the API server and neither pods nor Services. Nothing is added to this
    machine's network, mounts or processes that outlives `stop`, or the death of the
    process that started it, however that happens.
    """

    def __init__(self) -> None:
        """Describe a cluster; nothing starts yet."""
        self._running: RunningNode | None = None

    @property
    def directory(self) -> Path:
        """The folder with everything of this cluster."""
        return self._run().places.layout.directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for commands outside and on the node."""
        return self._run().places.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The audit log: one JSON event of level Metadata a line, without RequestReceived."""
        return self._run().places.layout.audit_log

    @property
    def server(self) -> str:
        """The URL of the API server, outside and on the node."""
        self._run()
        return PORTS.server

    @property
    def binaries(self) -> Path:
        """The folder with kubectl and the control plane."""
        return self._run().binaries

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the programs, by name; `node` and `outside` hold the namespaces."""
        return dict(self._run().machines.pids)

    def start(self, progress: Progress | None = None) -> None:
        """Start everything and return when pods can run.

        Args:
            progress: is told each step in a few words.

        Raises:
            BinariesNotFound: there are no Kubernetes binaries and none can be had.
            StartFailed: a program ended or was not ready in time.
            DevClusterError: a node cannot run here, or this one runs already.
        """
        if self._running is not None:
            raise DevClusterError("this node runs already; `stop` it first")
        say = progress or say_nothing
        plugins = checks.check(say)
        folder, node_binaries = binaries.locate(say), binaries.locate_node(say)
        layout = Layout(Path(tempfile.mkdtemp(prefix="node-")))
        places = Places(layout, cgroup=f"modelworker-{uuid4().hex[:12]}")
        processes: Processes | None = None
        try:
            checks.check_folder(layout.directory)
            now = datetime.datetime.now(datetime.UTC)
            files.write_files(places, now=now, plugins=plugins)
            processes = Processes(
                layout.log("supervisor"),
                remove=layout.directory,
                cgroups=cgroups.folders(places.cgroup),
            )
            cgroups.create(places.cgroup)
            self._running = RunningNode(places, processes, binaries=folder)
            self._running.start(node_binaries, say)
        except BaseException:
            self._running = None
            if processes is not None:
                processes.close()
            shutil.rmtree(layout.directory, ignore_errors=True)
            raise

    def stop(self) -> None:
        """End everything, and remove a temporary folder; a second call does nothing.

        The node goes down as by a loss of power: pods get no signal.
        """
        if self._running is not None:
            running, self._running = self._running, None
            running.processes.close()  # the supervisor removes the folder too

    def outside_command(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` outside, where only the API server can be reached."""
        return self._run().machines.outside(argv)

    def inside_command(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` on the node, where pods and Services can be reached."""
        return self._run().machines.node(argv)

    def load_image(self, archive: Path) -> None:
        """Give the node the images of an archive, as `docker save` or `buildah push` write it.

        Raises:
            StartFailed: containerd refuses it.
            DevClusterError: the node does not run.
        """
        self._run().import_image(archive.absolute())

    def guard(self, pid: int) -> None:
        """Have a process of the caller killed, with its descendants, when the node ends.

        That is also when the caller itself is killed.

        Raises:
            DevClusterError: the node does not run, or there is no such process.
        """
        self._run().processes.guard(pid)

    def logs(self, name: str) -> str:
        """What a program wrote, for example `kubelet` or `kube-apiserver`.

        Raises:
            DevClusterError: there is no such program, or the node does not run.
        """
        running = self._run()
        if name not in running.machines.pids:
            known = ", ".join(running.machines.pids)
            raise DevClusterError(f"there is no program {name}; there are: {known}")
        return running.places.layout.log(name).read_text(errors="replace")

    def _on_node(self, folder: Path) -> Path:
        return folder

    def _run(self) -> RunningNode:
        if self._running is None:
            raise DevClusterError("this node does not run; call `start` or use `with`")
        return self._running
