"""A build of the binaries from the pinned Go modules."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.versions import HELM, KUBERNETES, Pinned

Run = Callable[[Sequence[str], Path, Mapping[str, str]], Iterator[str]]
"""Runs a command in a folder with an environment and yields the lines of its output.

Raises `SourceFailed` when it does not end well.
"""

_TAIL_LINES = 15
_SAY_EVERY = 250


class GoBuild:
    """Builds the upstream commands that a go.mod pins."""

    label = "build with the Go toolchain"
    remedy = "install Go (https://go.dev/dl) and let it reach a module proxy"

    def __init__(
        self,
        pinned: Pinned,
        environment: Mapping[str, str],
        *,
        go: str | None = None,
        run: Run | None = None,
    ) -> None:
        """Prepare; nothing is built yet.

        Args:
            pinned: what to build.
            environment: the environment for Go.
            go: the Go command, None for the one on PATH.
            run: how commands are run, None for child processes.
        """
        self._pinned = pinned
        # GOWORK: a go.work above this checkout is not about this build.
        self._environment = {**environment, "CGO_ENABLED": "0", "GOWORK": "off"}
        self._go = go or shutil.which("go", path=environment.get("PATH"))
        self._run = run or run_command

    def fill(self, folder: Path, say: Callable[[str], None]) -> None:
        """Put every binary into `folder`.

        Raises:
            SourceFailed: there is no Go toolchain, or the build fails.
        """
        if self._go is None:
            raise SourceFailed("there is no `go` command on PATH")
        names = ", ".join(self._pinned.names)
        say(f"building {names} from Go modules: minutes on two cores, once")
        binaries = self._pinned.tools.binaries
        total = len(set(self._lines("list", "-deps", *(one.package for one in binaries))))
        done = 0
        with tqdm(total=total, unit="package", desc="go build", disable=None) as bar:
            # Apart, what Go would name otherwise: etcd by its module, `server`.
            together = [one.package for one in binaries if one.package.endswith(f"/{one.name}")]
            targets = {
                str(folder / one.name): [one.package]
                for one in binaries
                if one.package not in together
            }
            if together:
                targets[f"{folder}/"] = together
            for target, built in targets.items():
                flags = ["-v", "-trimpath", "-ldflags", self._linker_flags(), "-o", target]
                for _ in self._lines("build", *flags, *built):
                    done += 1
                    bar.update()
                    # Without a terminal there is no bar: a line now and then, for CI's log.
                    if bar.disable and done % _SAY_EVERY == 0:
                        say(f"go build: {done} of {total} packages")
            bar.update(total - done)  # Go does not name what its own cache had

    def _lines(self, verb: str, *arguments: str) -> Iterator[str]:
        command = [str(self._go), verb, "-mod=readonly", *arguments]
        return self._run(command, self._pinned.folder, self._environment)

    def _linker_flags(self) -> str:
        return " ".join(["-s -w", *(f"-X {key}={value}" for key, value in self._stamps().items())])

    def _stamps(self) -> dict[str, str]:
        """What the releases are stamped with; the others know their version by themselves."""
        stamps: dict[str, str] = {}
        if version := self._pinned.versions.get(KUBERNETES):
            major, minor, *_ = version.removeprefix("v").split(".")
            values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
            stamps |= {f"k8s.io/component-base/version.{k}": v for k, v in values.items()}
        if version := self._pinned.versions.get(HELM):
            stamps[f"{HELM}/internal/version.version"] = version
        return stamps


def run_command(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[str]:
    """Run a command and yield the lines of its output as they come.

    Raises:
        SourceFailed: it cannot be started or ends with an exit code other than 0.
    """
    tail: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise SourceFailed(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        for line in process.stdout or ():
            tail = [*tail, line.rstrip()][-_TAIL_LINES:]
            yield line.rstrip()
    except BaseException:
        # Nobody reads on. At the end of its output it is ending by itself, and may not be yet.
        process.terminate()
        process.wait()
        raise
    code = process.wait()
    if code != 0:
        shown = "\n".join(tail)
        raise SourceFailed(f"`{' '.join(command[:2])}` ended with exit code {code}:\n{shown}")
