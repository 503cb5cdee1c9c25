"""Debian packages: what is missing, who installs it, and what is said when nobody can."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from modelworker_devcluster.debian import PackagesMissing, ensure_packages, missing_packages
from modelworker_devcluster.errors import SourceFailed


class Apt:
    """A machine with some packages."""

    def __init__(self, *installed: str, broken: bool = False) -> None:
        self.installed = set(installed)
        self.ran: list[list[str]] = []
        self._broken = broken

    def __call__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Iterator[str]:
        words = [word for word in command if not word.startswith("--")]
        if words[0] == "dpkg-query":
            yield from (f"installed {name}" for name in words[1:] if name in self.installed)
            yield "deinstall removed-before"
            if set(words[1:]) - self.installed:
                raise SourceFailed("no packages found")
            return
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"
        self.ran.append(words)
        if self._broken:
            raise SourceFailed("Could not resolve host")
        for name in words[2:]:
            self.installed.add(name)
            yield f"Setting up {name} (1.0) ..."


def test_what_is_there_is_not_installed_again() -> None:
    apt = Apt("buildah", "debootstrap")
    ensure_packages(["buildah", "debootstrap"], pytest.fail, may_install=True, run=apt)
    assert apt.ran == []


def test_what_is_missing_is_installed_with_progress() -> None:
    apt, said = Apt("buildah"), list[str]()
    ensure_packages(["buildah", "debootstrap"], said.append, may_install=True, run=apt)
    assert apt.ran == [["apt-get", "update"], ["apt-get", "install", "debootstrap"]]
    assert said == ["apt-get install debootstrap", "apt-get: Setting up debootstrap (1.0)"]
    assert missing_packages(["buildah", "debootstrap"], apt) == ()


def test_a_removed_package_is_missing() -> None:
    assert missing_packages(["removed-before"], Apt()) == ("removed-before",)


@pytest.mark.parametrize(
    ("broken", "may_install", "message"),
    [
        pytest.param(False, False, "sudo apt-get install debootstrap tar", id="no-root"),
        pytest.param(True, True, "cannot install debootstrap, tar: Could not", id="no-network"),
    ],
)
def test_what_cannot_be_installed_is_named(broken: bool, may_install: bool, message: str) -> None:
    with pytest.raises(PackagesMissing, match=message):
        ensure_packages(
            ["debootstrap", "tar"], lambda _: None, may_install=may_install, run=Apt(broken=broken)
        )
