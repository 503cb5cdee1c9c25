"""The image that the others are built on: the pinned one, or one bootstrapped here."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from modelworker_devcluster import debian
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.images.engines import Command, Docker
from modelworker_devcluster.images.options import AUTO, ImagesFailed

Progress = Callable[[str], None]
Run = Callable[[Sequence[str]], Iterable[str]]
"""Runs a command and gives the lines of its output; raises `DevClusterError` if it fails."""

PACKAGES: Final = ("debootstrap", "debian-archive-keyring", "tar")
"""What a bootstrap needs, as Debian packages."""

_PINNED = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)
_SUITE = "bookworm"
# Found by the name of what is in it: a changed recipe makes a new base.
_INCLUDED = ("ca-certificates", "python3", "python3-venv")
_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./tmp/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
)


def pinned(dockerfile: str) -> str:
    """The base that a Dockerfile names.

    Args:
        dockerfile: its text.

    Raises:
        ImagesFailed: it names none.
    """
    if (found := _PINNED.search(dockerfile)) is None:
        raise ImagesFailed("the Dockerfile has no line `ARG BASE_IMAGE=...`")
    return found.group(1)


def find(
    wanted: str,
    pinned_reference: str,
    engine: Docker,
    cache: Path,
    *,
    run: Run,
    say: Progress,
    can_bootstrap: Callable[[], bool] = debian.can_install,
) -> str:
    """The base to build on, in the engine's store.

    Args:
        wanted: the user's choice: an image, or `auto`.
        pinned_reference: the base that the Dockerfiles name.
        engine: where it is to be.
        cache: the folder where a bootstrapped base is kept.
        run: how commands are run.
        say: is told each step in a few words.
        can_bootstrap: says if a base can be made here.

    Raises:
        ImagesFailed: there is none, and none can be had.
    """
    reference = pinned_reference if wanted == AUTO else wanted
    if _works(run, engine.has(reference)):
        return reference
    try:
        say(f"{engine.name} pull {reference}")
        _finish(run, engine.pull(reference))
    except DevClusterError as error:
        if wanted != AUTO:
            raise ImagesFailed(
                f"{engine.name} has no image {wanted} and cannot pull it: {error}\n"
                "Name one that it has or can pull with --base, or leave --base out"
            ) from error
        if not can_bootstrap():
            raise ImagesFailed(
                f"{engine.name} cannot pull the base {reference}: {error}\n"
                "Let it reach the registry, name another base with --base (any Debian-like "
                "image with Python 3.11 or newer and venv), or run this as root on Debian or "
                "its like, where a base is bootstrapped"
            ) from error
        reason = str(error).splitlines()[-1].rpartition(": ")[2]
        say(f"it cannot be pulled ({reason}): building on a base bootstrapped here")
        return _bootstrapped(engine, cache, run, say)
    return reference


def bootstrapped_reference() -> str:
    """The name of the base that is bootstrapped here."""
    recipe = hashlib.sha256(repr((_SUITE, _INCLUDED, _LEFT_OUT)).encode()).hexdigest()[:8]
    return f"localhost/modelworker-base:{_SUITE}-{recipe}"


def bootstrap_commands(root: Path, archive: Path) -> tuple[Command, ...]:
    """The commands that make a tar file of a small Debian with Python.

    Args:
        root: an empty folder to make it in.
        archive: the tar file.
    """
    return (
        (
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(_INCLUDED)}",
            _SUITE,
            str(root),
        ),
        (
            "tar",
            "--create",
            "--one-file-system",
            "--numeric-owner",
            *(f"--exclude={left_out}" for left_out in _LEFT_OUT),
            f"--file={archive}",
            f"--directory={root}",
            ".",
        ),
    )


def _bootstrapped(engine: Docker, cache: Path, run: Run, say: Progress) -> str:
    reference = bootstrapped_reference()
    if _works(run, engine.has(reference)):
        return reference
    archive = cache / f"{reference.rpartition(':')[2]}.tar"
    if not archive.exists():
        debian.ensure_packages(PACKAGES, say)
        say(f"debootstrap {_SUITE}: about a minute, once")
        _bootstrap(archive, run)
    say(f"{engine.name}: importing {reference}")
    for command in engine.load(archive, reference):
        _finish(run, command)
    return reference


def _bootstrap(archive: Path, run: Run) -> None:
    made = Path(tempfile.mkdtemp(prefix="bootstrap-", dir=archive.parent))
    try:
        root = made / "root"
        root.mkdir(mode=0o755)
        part = made / archive.name
        for command in bootstrap_commands(root, part):
            _finish(run, command)
        part.rename(archive)
    finally:
        # debootstrap mounts /proc there, and may have been killed before it unmounted it.
        _finish(run, ("rm", "--recursive", "--force", "--one-file-system", str(made)))


def _works(run: Run, command: Command) -> bool:
    try:
        _finish(run, command)
    except DevClusterError:
        return False
    return True


def _finish(run: Run, command: Command) -> None:
    for _ in run(command):
        pass
