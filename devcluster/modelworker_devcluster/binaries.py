"""Where the binaries come from."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from modelworker_devcluster import settings, versions
from modelworker_devcluster.download import Download
from modelworker_devcluster.errors import BinariesNotFound, SourceFailed
from modelworker_devcluster.gobuild import GoBuild

Progress = Callable[[str], None]


class Source(Protocol):
    """A way to come by the binaries.

    Attributes:
        label: what it is, in a few words.
        remedy: what to do so that it works.
    """

    label: str
    remedy: str

    def fill(self, folder: Path, say: Progress, /) -> None:
        """Put every binary into `folder`.

        Raises:
            SourceFailed: it cannot.
        """


def locate(say: Progress) -> Path:
    """The folder with the control plane and kubectl; fetched or built if need be.

    Args:
        say: is told each step in a few words.

    Raises:
        BinariesNotFound: there are none and none can be had; lists the choices.
    """
    return _folder(versions.CONTROL_PLANE, say)


def locate_helm(say: Progress) -> Path:
    """The helm command; fetched or built if need be.

    Args:
        say: is told each step in a few words.

    Raises:
        BinariesNotFound: there is none and none can be had; lists the choices.
    """
    return _folder(versions.CHART_TOOL, say) / "helm"


def locate_node(say: Progress) -> dict[str, Path]:
    """The file of each command of a real node, by name: kubelet, kube-proxy and coredns.

    Args:
        say: is told each step in a few words.

    Raises:
        BinariesNotFound: one is missing and cannot be had; lists the choices.
    """
    found: dict[str, Path] = {}
    for tools in (versions.NODE, versions.NAME_SERVER):
        folder = _folder(tools, say)
        found |= {binary.name: folder / binary.name for binary in tools.binaries}
    return found


def _folder(tools: versions.ToolSet, say: Progress) -> Path:
    pinned = versions.pinned(tools)
    platform = versions.platform_name()
    return find(
        pinned.names,
        say,
        folder=settings.binaries_folder(),
        cache=settings.cache_folder() / pinned.label / platform,
        sources=(Download(pinned, platform), GoBuild(pinned, settings.environment({}))),
    )


def find(
    names: Sequence[str],
    say: Progress,
    *,
    folder: Path | None,
    cache: Path,
    sources: Iterable[Source],
) -> Path:
    """The folder with all binaries: `folder` if given, else `cache`, filled by the first source.

    Two processes that need the same binaries do not fetch or build them twice.

    Args:
        names: the binaries that must be there.
        say: is told each step in a few words.
        folder: the user's choice; it is used or refused, never passed over.
        cache: where binaries are kept; it holds all of them or does not exist.
        sources: tried in order.

    Raises:
        BinariesNotFound: `folder` is incomplete, or every source failed.
    """
    if folder is not None:
        if missing := _missing(folder, names):
            raise BinariesNotFound(
                f"{settings.BINARIES_VARIABLE} names {folder}, which has no executable "
                f"{', '.join(missing)}; put them there, or unset {settings.BINARIES_VARIABLE}"
            )
        return folder
    if not _missing(cache, names):
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_name(f"{cache.name}.lock")):
        missing = _missing(cache, names)
        if not missing:
            return cache
        failures = [
            f"{settings.BINARIES_VARIABLE}: not set",
            f"cache {cache}: has no {', '.join(missing)}",
        ]
        remedies = [f"set {settings.BINARIES_VARIABLE} to a folder with {', '.join(names)}"]
        for source in sources:
            try:
                _fill(cache, source, names, say)
            except SourceFailed as error:
                say(f"{source.label}: failed")
                failures.append(f"{source.label}: {error}")
                remedies.append(source.remedy)
            else:
                return cache
    raise BinariesNotFound(
        f"there is no {', '.join(names)} to run. Tried, in this order:\n"
        + "\n".join(f"  {number}. {failure}" for number, failure in enumerate(failures, 1))
        + "\nAny one of these helps:\n"
        + "\n".join(f"  - {remedy}" for remedy in remedies)
    )


def _fill(cache: Path, source: Source, names: Sequence[str], say: Progress) -> None:
    prefix = f"{cache.name}.part-"
    for remains in cache.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(remains)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=cache.parent) as made:
        part = Path(made) / "bin"
        part.mkdir()
        source.fill(part, say)
        if missing := _missing(part, names):
            raise SourceFailed(f"gave no {', '.join(missing)}")
        shutil.rmtree(cache, ignore_errors=True)
        part.rename(cache)


def _missing(folder: Path, names: Sequence[str]) -> list[str]:
    def usable(file: Path) -> bool:
        return file.is_file() and os.access(file, os.X_OK)

    return [name for name in names if not usable(folder / name)]
