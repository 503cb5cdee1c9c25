"""What every cluster with a real node can do, whatever it is made of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from modelworker_devcluster import settings
from modelworker_devcluster.commands import Completed, completed, kubectl_output
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.node import manifests
from modelworker_devcluster.running import Progress


class Node(ABC):
    """A cluster whose node runs real containers; a context manager, or `start` and `stop`.

    Every property raises `DevClusterError` while it does not run.
    """

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

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for commands outside."""

    @property
    @abstractmethod
    def binaries(self) -> Path:
        """The folder with kubectl."""

    @property
    @abstractmethod
    def audit_log(self) -> Path:
        """The audit log: one JSON event of level Metadata a line, without RequestReceived."""

    @abstractmethod
    def start(self, progress: Progress | None = None) -> None:
        """Start everything and return when pods can run.

        Args:
            progress: is told each step in a few words.

        Raises:
            BinariesNotFound: there are no binaries and none can be had.
            StartFailed: something ended or was not ready in time.
            DevClusterError: it cannot run here, or runs already.
        """

    @abstractmethod
    def stop(self) -> None:
        """End everything and remove its files; a second call does nothing."""

    @abstractmethod
    def outside_command(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` outside, where the API server can be reached."""

    @abstractmethod
    def inside_command(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` on the node, where pods and Services can be reached."""

    @abstractmethod
    def load_image(self, archive: Path) -> None:
        """Give the node the images of an archive, as `docker save` or `buildah push` write it.

        Raises:
            StartFailed: it is refused.
            DevClusterError: the node does not run.
        """

    @abstractmethod
    def logs(self, name: str) -> str:
        """What a program of the node wrote, for example `kubelet`.

        Raises:
            DevClusterError: there is no such program, or the node does not run.
        """

    @abstractmethod
    def _on_node(self, folder: Path) -> Path:
        """Where the node has a folder of this machine."""

    def environment(self, added: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command: KUBECONFIG set, and kubectl on its PATH.

        Args:
            added: more variables.
        """
        cache = self.kubeconfig.with_name("kubectl-cache")
        own = {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(cache)}
        return settings.environment({**own, **added}, path=self.binaries)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run the matching kubectl as administrator, outside.

        Args:
            args: its arguments.
            stdin: its standard input, for `-f -`.
            check: whether an exit code other than 0 is an error.

        Returns:
            Its standard output.

        Raises:
            KubectlFailed: it ended with an exit code other than 0, and `check` is set.
            DevClusterError: the node does not run.
        """
        command = self.outside_command([str(self.binaries / "kubectl"), *args])
        return kubectl_output(args, command, self.environment({}), stdin=stdin, check=check)

    def outside(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Completed:
        """Run a command outside, with KUBECONFIG set and kubectl on its PATH.

        Args:
            argv: the command and its arguments.
            env: more variables of its environment.
        """
        return completed(self.outside_command(argv), self.environment(env or {}))

    def inside(self, argv: Sequence[str]) -> Completed:
        """Run a command on the node."""
        return completed(self.inside_command(argv), self.environment({}))

    def volume(self, name: str, folder: Path, *, namespace: str = "default") -> None:
        """Make a claim whose volume is a folder of this machine, and wait until it is bound.

        Its files are what they are: a pod's user must be allowed to read them.

        Args:
            name: the claim's name.
            folder: the folder.
            namespace: the claim's namespace, which may enforce `restricted`.

        Raises:
            KubectlFailed: the API server refuses.
            DevClusterError: the folder does not exist, or the node does not run.
        """
        if not folder.is_dir():
            raise DevClusterError(f"{folder} is no folder; make it first")
        place = self._on_node(folder.absolute())
        objects = manifests.text(manifests.volume(name, namespace, place))
        self.kubectl("apply", "--server-side", "-f", "-", stdin=objects)
        self.kubectl(
            *("wait", f"pvc/{name}", f"-n={namespace}", "--timeout=60s"),
            "--for=jsonpath={.status.phase}=Bound",
        )
