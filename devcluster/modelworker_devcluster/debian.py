"""Packages of the distribution, for what is no Python package: on Debian and its like."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from modelworker_devcluster import settings
from modelworker_devcluster.errors import DevClusterError, SourceFailed
from modelworker_devcluster.gobuild import Run, run_command

Progress = Callable[[str], None]

_QUERY = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n")
_APT = ("apt-get", "--quiet", "--yes", "--option=DPkg::Lock::Timeout=300")
_INSTALL = (*_APT, "install", "--no-install-recommends")


class PackagesMissing(DevClusterError):
    """Packages are missing and cannot be installed from here; the message says how."""


def can_install() -> bool:
    """True where `ensure_packages` may install: as root, with apt-get on PATH."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def ensure_packages(
    packages: Sequence[str],
    say: Progress,
    *,
    may_install: bool | None = None,
    run: Run = run_command,
) -> None:
    """Install the Debian packages that are missing, if any.

    Args:
        packages: names of Debian packages.
        say: is told each step in a few words.
        may_install: None for `can_install()`.
        run: how commands are run.

    Raises:
        PackagesMissing: some are missing, and this user cannot install them or apt-get failed.
    """
    missing = missing_packages(packages, run)
    if not missing:
        return
    names = " ".join(missing)
    if not (can_install() if may_install is None else may_install):
        raise PackagesMissing(
            f"the packages {', '.join(missing)} are missing: run "
            f"`sudo apt-get install {names}`, or install their like of your distribution"
        )
    say(f"apt-get install {names}")
    environment = settings.environment({"DEBIAN_FRONTEND": "noninteractive"})
    try:
        for command in ((*_APT, "update"), (*_INSTALL, *missing)):
            for line in run(command, Path("/"), environment):
                if line.startswith("Setting up "):
                    say(f"apt-get: {line.removesuffix(' ...')}")
    except SourceFailed as error:
        raise PackagesMissing(
            f"cannot install {', '.join(missing)}: {error}\nInstall them, then try again"
        ) from error


def missing_packages(packages: Sequence[str], run: Run = run_command) -> tuple[str, ...]:
    """Those of the packages that are not installed, in their order.

    Args:
        packages: names of Debian packages.
        run: how commands are run.
    """
    installed = set()
    try:
        for line in run((*_QUERY, *packages), Path("/"), settings.environment({})):
            status, _, name = line.partition(" ")
            if status == "installed":
                installed.add(name)
    except SourceFailed:
        pass  # dpkg-query does not know one of them, or there is no dpkg-query
    return tuple(package for package in packages if package not in installed)
