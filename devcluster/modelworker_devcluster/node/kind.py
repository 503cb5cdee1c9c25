"""The same, from kind, where Docker runs."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from modelworker_devcluster import binaries, components, settings
from modelworker_devcluster.commands import Completed, completed, say_nothing
from modelworker_devcluster.errors import DevClusterError, StartFailed
from modelworker_devcluster.node import manifests
from modelworker_devcluster.node.face import Node
from modelworker_devcluster.running import Progress

IMAGE = (
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
)
"""Of kind v0.33.0; of the minor version that the devcluster runs."""

_FOLDER = "/etc/kubernetes/audit"
_LOG = f"{_FOLDER}/audit.log"
_UNITS = ("kubelet", "containerd")

Run = Callable[[Sequence[str]], Completed]


class KindNode(Node):
    """A cluster of kind with one node; the outside is this machine itself.

    Unlike a `RealNode` it outlives a process that is killed: `kind get clusters` lists it.
    """

    def __init__(self, *, run: Run | None = None) -> None:
        """Describe a cluster; nothing starts yet.

        Args:
            run: how kind and docker are run, None for child processes.
        """
        self._run = run or (lambda argv: completed(argv, settings.environment({})))
        self._name = f"modelworker-{uuid4().hex[:8]}"
        self._directory: Path | None = None
        self._binaries: Path | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for commands outside."""
        return self._folder() / "kubeconfig"

    @property
    def binaries(self) -> Path:
        """The folder with kubectl."""
        if self._binaries is None:
            raise DevClusterError("this node does not run; call `start` or use `with`")
        return self._binaries

    @property
    def audit_log(self) -> Path:
        """A copy of the audit log as it is now; on the node only root may read it."""
        file = self._folder() / "audit.log"
        file.write_text(self._check(self.inside_command(["cat", _LOG])))
        return file

    def start(self, progress: Progress | None = None) -> None:
        """Create the cluster and return when pods can run.

        Args:
            progress: is told each step in a few words.

        Raises:
            BinariesNotFound: there is no kubectl and none can be had.
            StartFailed: kind failed.
            DevClusterError: this one runs already.
        """
        if self._directory is not None:
            raise DevClusterError("this node runs already; `stop` it first")
        say = progress or say_nothing
        self._binaries = binaries.locate(say)
        self._directory = Path(tempfile.mkdtemp(prefix="kind-"))
        try:
            audit = self._directory / "audit"
            audit.mkdir()
            (audit / "policy.yaml").write_text(components.AUDIT_POLICY)
            file = self._directory / "kind.json"
            file.write_text(manifests.text(config(audit)))
            say("creating a cluster with kind")
            self._check(create_command(self._name, file, self.kubeconfig))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Delete the cluster and its files; a second call does nothing."""
        if self._directory is not None:
            self._run(["kind", "delete", "cluster", "--name", self._name])
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def outside_command(self, argv: Sequence[str]) -> list[str]:
        """The command itself: Docker publishes the API server's port on this machine."""
        self._folder()
        return list(argv)

    def inside_command(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` on the node, where pods and Services can be reached."""
        self._folder()
        return ["docker", "exec", self._container, *argv]

    def load_image(self, archive: Path) -> None:
        """Give the node the images of an archive, as `docker save` or `buildah push` write it.

        Raises:
            StartFailed: kind refuses it.
            DevClusterError: the node does not run.
        """
        self._folder()
        self._check(["kind", "load", "image-archive", str(archive), "--name", self._name])

    def logs(self, name: str) -> str:
        """What the kubelet or containerd wrote.

        Raises:
            DevClusterError: it is none of these, or the node does not run.
        """
        if name not in _UNITS:
            raise DevClusterError(f"there is no log of {name}; there are: {', '.join(_UNITS)}")
        return self._check(self.inside_command(["journalctl", "--no-pager", f"--unit={name}"]))

    def _on_node(self, folder: Path) -> Path:
        place = Path("/volumes") / folder.relative_to("/")
        self._check(self.inside_command(["mkdir", "-p", str(place)]))
        self._check(["docker", "cp", f"{folder}/.", f"{self._container}:{place}"])
        return place

    @property
    def _container(self) -> str:
        return f"{self._name}-control-plane"

    def _folder(self) -> Path:
        if self._directory is None:
            raise DevClusterError("this node does not run; call `start` or use `with`")
        return self._directory

    def _check(self, argv: Sequence[str]) -> str:
        done = self._run(argv)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise StartFailed(f"`{' '.join(argv)}` ended with exit code {done.returncode}: {said}")
        return done.stdout


def is_usable(which: Callable[[str], str | None], run: Run) -> bool:
    """Whether kind is on PATH and Docker's daemon answers.

    Args:
        which: finds a command.
        run: how commands are run.
    """
    tools = ("kind", "docker")
    return all(which(name) for name in tools) and run(["docker", "info"]).returncode == 0


def create_command(name: str, config: Path, kubeconfig: Path) -> list[str]:
    """The command that creates a cluster and waits until its node is ready."""
    return [
        *("kind", "create", "cluster", "--name", name, "--config", str(config)),
        *("--kubeconfig", str(kubeconfig), "--image", IMAGE, "--wait", "180s"),
    ]


def config(audit: Path) -> dict[str, Any]:
    """The configuration for kind: one node, with an audit log.

    Args:
        audit: a folder of this machine, with the audit policy in it.
    """
    flags = {
        "audit-policy-file": f"{_FOLDER}/policy.yaml",
        "audit-log-path": _LOG,
        "audit-log-maxsize": "500",
    }
    volume = {
        "name": "audit",
        "hostPath": _FOLDER,
        "mountPath": _FOLDER,
        "pathType": "Directory",
    }
    patch = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": [{"name": name, "value": value} for name, value in flags.items()],
            "extraVolumes": [volume],
        },
    }
    mount = {"hostPath": str(audit), "containerPath": _FOLDER}
    node = {
        "role": "control-plane",
        "extraMounts": [mount],
        "kubeadmConfigPatches": [manifests.text(patch)],
    }
    return {"apiVersion": "kind.x-k8s.io/v1alpha4", "kind": "Cluster", "nodes": [node]}
