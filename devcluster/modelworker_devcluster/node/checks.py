"""What a machine must be and have, to be a node's."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from modelworker_devcluster import debian
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.running import Progress

BUSYBOX = Path("/bin/busybox")
"""Of the package busybox-static: it needs no file beside itself."""

HIDDEN = (Path("/var/lib"), Path("/var/log"), Path("/run"))
"""What `init.py` puts something over."""

_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_PLUGIN = "ptp"
_COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""The Debian package of each command."""


def check(say: Progress) -> Path:
    """See that a node can run here, and install the packages that are missing.

    Args:
        say: is told each step in a few words.

    Returns:
        The folder with the CNI plugins.

    Raises:
        DevClusterError: it cannot; the message says the next step.
    """
    check_machine(sys.platform, os.geteuid())
    if packages := missing_packages(shutil.which, Path.exists):
        debian.ensure_packages(packages, say)
    for folder in _PLUGINS:
        if (folder / _PLUGIN).exists():
            return folder
    looked = " and ".join(map(str, _PLUGINS))
    raise DevClusterError(f"there are no CNI plugins in {looked}; install them in one of these")


def check_machine(platform: str, user: int) -> None:
    """See that a node can run on a system as a user.

    Raises:
        DevClusterError: it cannot.
    """
    if platform != "linux":
        raise DevClusterError("a real node needs Linux; use a Linux machine, or kind with Docker")
    if user != 0:
        raise DevClusterError(
            "a real node needs root, for namespaces, mounts and control groups; run this with "
            "sudo, or use kind with Docker, or the devcluster without containers"
        )


def missing_packages(
    which: Callable[[str], str | None], exists: Callable[[Path], bool]
) -> list[str]:
    """The Debian packages of what is missing.

    Args:
        which: finds a command.
        exists: sees whether a file is there.
    """
    missing = [package for command, package in _COMMANDS.items() if which(command) is None]
    if not exists(BUSYBOX):
        missing.append("busybox-static")
    if not any(exists(folder / _PLUGIN) for folder in _PLUGINS):
        missing.append("containernetworking-plugins")
    return list(dict.fromkeys(missing))


def check_folder(folder: Path) -> None:
    """See that a folder can hold a node.

    Raises:
        DevClusterError: it is where the node has a view of its own.
    """
    for hidden in HIDDEN:
        if folder.resolve().is_relative_to(hidden):
            raise DevClusterError(
                f"{folder} is below {hidden}, of which a node has a view of its own; set TMPDIR "
                "to another folder"
            )
