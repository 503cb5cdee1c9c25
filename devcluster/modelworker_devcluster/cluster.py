"""A cluster as an object: the face of this package."""

import contextlib
import datetime
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from modelworker_devcluster import binaries, files, operators, settings
from modelworker_devcluster.commands import kubectl_output, say_nothing
from modelworker_devcluster.components import API_SERVER
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import Layout
from modelworker_devcluster.processes import Processes
from modelworker_devcluster.running import Progress, RunningCluster


class DevCluster:
    """A real Kubernetes control plane on free loopback ports, and one node of processes.

    Use it as a context manager, or call `start` and `stop`. Several can run side by
    side. When the process that started it dies, however that happens, nothing of the
    cluster is left running.

    Every property raises `DevClusterError` while the cluster does not run.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        kubelet: bool = True,
        node: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Describe a cluster; nothing starts yet.

        Args:
            name: names the kubeconfig's context, `devcluster-NAME`.
            kubelet: whether to run a node. Without one, pods stay Pending.
            node: capacity of the node on top of the machine's CPUs and memory, or in
                their place, for example `{"nvidia.com/gpu": "2"}`.
            directory: a folder without a cluster in it, made if missing, to keep this
                one in. None makes a temporary one that `stop` removes.
        """
        self._context = f"devcluster-{name}" if name else "devcluster"
        self._has_kubelet = kubelet
        self._capacity = dict(node or {})
        self._directory = directory
        self._running: RunningCluster | None = None

    @property
    def directory(self) -> Path:
        """The folder with everything of this cluster."""
        return self._run().layout.directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._run().layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The audit log: one JSON event of level Metadata a line, without RequestReceived."""
        return self._run().layout.audit_log

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self._run().ports.server

    @property
    def binaries(self) -> Path:
        """The folder with kubectl and the other binaries."""
        return self._run().binaries

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the components, by name."""
        return dict(self._run().pids)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, progress: Progress | None = None) -> None:
        """Start everything and return when pods can be created, and run if there is a node.

        Args:
            progress: is told each step in a few words.

        Raises:
            BinariesNotFound: there are no Kubernetes binaries and none can be had.
            StartFailed: a component ended or was not ready in time.
            DevClusterError: this object runs a cluster already, or the folder holds one.
        """
        if self._running is not None:
            raise DevClusterError("this cluster runs already; `stop` it first")
        if sys.platform != "linux":
            raise DevClusterError("the devcluster needs Linux; use a Linux machine, or a real node")
        say = progress or say_nothing
        folder = binaries.locate(say)
        temporary = self._directory is None
        directory = self._directory or Path(tempfile.mkdtemp(prefix="devcluster-"))
        layout = Layout(directory.absolute())
        if layout.etcd.exists():
            raise DevClusterError(f"{directory} holds a cluster already; remove it first")
        try:
            authority = files.write_files(layout, now=datetime.datetime.now(datetime.UTC))
            self._running = RunningCluster(
                layout,
                authority,
                binaries=folder,
                context=self._context,
                processes=Processes(
                    layout.log("supervisor"), remove=layout.directory if temporary else None
                ),
            )
            self._running.start_control_plane(say)
            if self._has_kubelet:
                self._running.start_kubelet(self._capacity, say)
        except BaseException:
            try:
                self.stop()
            finally:
                if temporary:
                    shutil.rmtree(directory, ignore_errors=True)
            raise

    def stop(self) -> None:
        """End everything, and remove a temporary folder; a second call does nothing."""
        if self._running is not None:
            try:
                self._running.stop()
            finally:
                if self._directory is None:
                    shutil.rmtree(self.directory, ignore_errors=True)
                self._running = None

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run the matching kubectl as administrator.

        Args:
            args: its arguments.
            stdin: its standard input, for `-f -`.
            check: whether an exit code other than 0 is an error.

        Returns:
            Its standard output.

        Raises:
            KubectlFailed: it ended with an exit code other than 0, and `check` is set.
            DevClusterError: the cluster does not run.
        """
        running = self._run()
        own = {
            "KUBECONFIG": str(running.layout.kubeconfig),
            "KUBECACHEDIR": str(running.layout.kubectl_cache),
        }
        command = [str(running.binaries / "kubectl"), *args]
        return kubectl_output(args, command, settings.environment(own), stdin=stdin, check=check)

    def stop_apiserver(self) -> None:
        """Kill the API server with SIGKILL, as a crash would; everything else runs on.

        Raises:
            DevClusterError: the cluster does not run.
        """
        self._run().processes.kill(API_SERVER)

    def start_apiserver(self) -> None:
        """Start the API server again on the same port and data; returns when it is ready.

        Raises:
            StartFailed: it ended or was not ready in time.
            DevClusterError: the cluster does not run, or its API server does.
        """
        self._run().start_api_server()

    def install_operator(self, progress: Progress | None = None) -> None:
        """Apply the CRDs of this checkout and run its operator until the cluster stops.

        Args:
            progress: is told each step in a few words.

        Raises:
            KubectlFailed: the CRDs cannot be applied.
            StartFailed: the operator ended or was not ready in time.
            DevClusterError: the cluster does not run, or its operator does.
        """
        running = self._run()
        running.pids[operators.OPERATOR] = operators.install(
            running.layout, running.processes, self.kubectl, progress or say_nothing
        )

    def container_pid(self, namespace: str, pod: str, container: str) -> int:
        """The process id of a container that runs.

        Raises:
            DevClusterError: it does not run.
        """
        layout = self._run().layout
        for file in layout.kubelet.glob(f"pods/{namespace}_{pod}_*/{container}.pid"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                return int(file.read_text())
        raise DevClusterError(f"container {container} of pod {namespace}/{pod} does not run")

    def guard(self, pid: int) -> None:
        """Have a process of the caller killed, with its descendants, when the cluster ends.

        That is also when the caller itself is killed.

        Raises:
            DevClusterError: the cluster does not run, or there is no such process.
        """
        self._run().processes.guard(pid)

    def _run(self) -> RunningCluster:
        if self._running is None:
            raise DevClusterError("this cluster does not run; call `start` or use `with`")
        return self._running
