"""Which binaries the devcluster runs, read from `devcluster/kube/go.mod`."""

import platform
import re
from dataclasses import dataclass

from modelworker_devcluster import settings
from modelworker_devcluster.errors import DevClusterError

MODULE_FOLDER = settings.CHECKOUT / "devcluster" / "kube"

_KUBERNETES = "k8s.io/kubernetes"
_ETCD = "go.etcd.io/etcd/server/v3"
_TOOL = re.compile(
    rf"^\s*(?:tool )?\s*(?P<package>{_KUBERNETES}/cmd/[\w-]+|{_ETCD})$", re.MULTILINE
)
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Versions:
    """The pinned versions and the commands to build.

    Attributes:
        kubernetes: for example `v1.37.2`.
        etcd: for example `v3.7.3`.
        packages: the Go package of each binary, by the binary's name.
    """

    kubernetes: str
    etcd: str
    packages: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the binaries."""
        return tuple(self.packages)

    @property
    def label(self) -> str:
        """Both versions in one word, for the name of a folder."""
        return f"{self.kubernetes}-etcd-{self.etcd}"


def parse(go_mod: str) -> Versions:
    """Read the versions and `tool` lines of a go.mod.

    Raises:
        DevClusterError: a version or a tool is missing.
    """
    packages = {
        "etcd" if package == _ETCD else package.rpartition("/")[2]: package
        for package in _TOOL.findall(go_mod)
    }
    if "etcd" not in packages or len(packages) < 2:
        raise DevClusterError(f"go.mod has no `tool` lines for {_KUBERNETES}/cmd/... and {_ETCD}")
    return Versions(_required(go_mod, _KUBERNETES), _required(go_mod, _ETCD), packages)


def pinned() -> Versions:
    """The versions of this checkout.

    Raises:
        DevClusterError: go.mod is missing or incomplete.
    """
    file = MODULE_FOLDER / "go.mod"
    try:
        return parse(file.read_text())
    except OSError as error:
        raise DevClusterError(
            f"{file} cannot be read ({error.strerror}); the devcluster runs from a checkout of "
            "the repository"
        ) from error


def platform_name() -> str:
    """This machine as the release downloads name it, for example `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def _required(go_mod: str, module: str) -> str:
    found = re.search(rf"^\s*(?:require )?\s*{module} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise DevClusterError(f"go.mod does not require {module}")
    return found.group(1)
