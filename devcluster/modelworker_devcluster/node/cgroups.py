"""The control groups of one node, in every hierarchy that the machine has."""

from dataclasses import dataclass
from pathlib import Path

from modelworker_devcluster.errors import DevClusterError

_MOUNTS = Path("/proc/self/mounts")
_CPUSET = ("cpuset.cpus", "cpuset.mems")
_CONTROLLERS = "cgroup.controllers"
_SUBTREE = "cgroup.subtree_control"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy.

    Attributes:
        folder: where it is mounted.
        version: 1 or 2.
    """

    folder: Path
    version: int


def hierarchies(mounts: str) -> list[Hierarchy]:
    """Every hierarchy that a list of mounts (as in /proc/self/mounts) has."""
    kinds = {"cgroup": 1, "cgroup2": 2}
    found = {}
    for _, folder, kind, *_ in map(str.split, mounts.splitlines()):
        if kind in kinds:
            found[folder] = Hierarchy(Path(folder), kinds[kind])
    return list(found.values())


def folders(name: str) -> list[Path]:
    """Where the group `name` is at the top of every hierarchy, made or not."""
    return [hierarchy.folder / name for hierarchy in hierarchies(_MOUNTS.read_text())]


def create(name: str) -> None:
    """Make the group `name` at the top of every hierarchy; the kubelet refuses a missing one.

    Raises:
        DevClusterError: it cannot be made.
    """
    for hierarchy in hierarchies(_MOUNTS.read_text()):
        try:
            _create(hierarchy, name)
        except OSError as error:
            raise DevClusterError(
                f"cannot make the control group {name} in {hierarchy.folder}: {error}; inside of "
                "a container, run that with --privileged --cgroupns=host"
            ) from error


def _create(hierarchy: Hierarchy, name: str) -> None:
    group = hierarchy.folder / name
    if hierarchy.version == 1:
        group.mkdir()
        for file in _CPUSET:
            # Empty in a new group of version 1, which no process can join then.
            if (group / file).exists():
                (group / file).write_text((hierarchy.folder / file).read_text())
    else:
        _hand_down(hierarchy.folder)
        group.mkdir()
        _hand_down(group)


def _hand_down(folder: Path) -> None:
    controllers = (folder / _CONTROLLERS).read_text().split()
    for controller in controllers:
        (folder / _SUBTREE).write_text(f"+{controller}")
