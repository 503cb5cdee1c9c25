"""Which binaries the devcluster runs, read from the go.mod files beside this package."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from modelworker_devcluster import settings
from modelworker_devcluster.errors import DevClusterError

MODULES = settings.CHECKOUT / "devcluster"

KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"
HELM = "helm.sh/helm/v4"
COREDNS = "github.com/coredns/coredns"

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Binary:
    """One upstream command.

    Attributes:
        name: the name of its file, for example `kubelet`.
        module: the Go module with it.
        package: the Go package that is built.
    """

    name: str
    module: str
    package: str


@dataclass(frozen=True, slots=True)
class ToolSet:
    """Commands that are pinned, fetched, built and kept together.

    Attributes:
        folder: where its go.mod is, beside this package.
        binaries: what is in it.
        prefix: what the label begins with, for a set that shares its go.mod.
    """

    folder: str
    binaries: tuple[Binary, ...]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A set at the versions of this checkout.

    Attributes:
        tools: the set.
        versions: the version of each Go module, for example `v1.37.2`.
    """

    tools: ToolSet
    versions: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the binaries."""
        return tuple(binary.name for binary in self.tools.binaries)

    @property
    def folder(self) -> Path:
        """The folder with go.mod."""
        return MODULES / self.tools.folder

    @property
    def label(self) -> str:
        """The versions in one word, for the name of a folder."""
        known = {KUBERNETES: "", ETCD: "etcd-", HELM: "helm-", COREDNS: "coredns-"}
        parts = (f"{known[module]}{version}" for module, version in self.versions.items())
        return self.tools.prefix + "-".join(parts)


def _kubernetes(name: str) -> Binary:
    return Binary(name, KUBERNETES, f"{KUBERNETES}/cmd/{name}")


CONTROL_PLANE = ToolSet(
    "kube",
    (
        *map(
            _kubernetes,
            ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
        ),
        Binary("etcd", ETCD, ETCD),
    ),
)
NODE = ToolSet("kube", (_kubernetes("kubelet"), _kubernetes("kube-proxy")), prefix="node-")
NAME_SERVER = ToolSet("coredns", (Binary("coredns", COREDNS, COREDNS),))
CHART_TOOL = ToolSet("helm", (Binary("helm", HELM, f"{HELM}/cmd/helm"),))


def pinned(tools: ToolSet) -> Pinned:
    """A set at the versions of this checkout.

    Raises:
        DevClusterError: its go.mod is missing or incomplete.
    """
    file = MODULES / tools.folder / "go.mod"
    try:
        return parse(tools, file.read_text())
    except OSError as error:
        raise DevClusterError(
            f"{file} cannot be read ({error.strerror}); the devcluster runs from a checkout of "
            "the repository"
        ) from error


def parse(tools: ToolSet, go_mod: str) -> Pinned:
    """Read the versions of a set from a go.mod.

    Raises:
        DevClusterError: a version or a `tool` line is missing.
    """
    for binary in tools.binaries:
        if not re.search(rf"^\s*(?:tool )?\s*{binary.package}$", go_mod, re.MULTILINE):
            raise DevClusterError(f"go.mod has no `tool` line for {binary.package}")
    modules = dict.fromkeys(binary.module for binary in tools.binaries)
    return Pinned(tools, {module: _required(go_mod, module) for module in modules})


def platform_name() -> str:
    """This machine as the release downloads name it, for example `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def _required(go_mod: str, module: str) -> str:
    found = re.search(rf"^\s*(?:require )?\s*{module} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise DevClusterError(f"go.mod does not require {module}")
    return found.group(1)
