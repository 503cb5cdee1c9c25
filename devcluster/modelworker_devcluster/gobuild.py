"""A build of the binaries from the pinned Go modules."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.versions import MODULE_FOLDER, Versions

Run = Callable[[Sequence[str], Path, Mapping[str, str]], Iterator[str]]
"""Runs a command in a folder with an environment and yields the lines of its output.

Raises `SourceFailed` when it does not end well.
"""

_TAIL_LINES = 15
_SAY_EVERY = 250
_VERSION_PACKAGE = "k8s.io/component-base/version"


class GoBuild:
    """Builds the upstream commands that `devcluster/kube/go.mod` names."""

    label = "build with the Go toolchain"
    remedy = "install Go (https://go.dev/dl) and let it reach a module proxy"

    def __init__(
        self,
        versions: Versions,
        environment: Mapping[str, str],
        *,
        go: str | None = None,
        run: Run | None = None,
    ) -> None:
        """Prepare; nothing is built yet.

        Args:
            versions: what to build.
            environment: the environment for Go.
            go: the Go command, None for the one on PATH.
            run: how commands are run, None for child processes.
        """
        self._versions = versions
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
        packages = self._versions.packages
        say("building from Go modules: about eight minutes on two cores, once")
        total = len(set(self._lines("list", "-deps", *packages.values())))
        done = 0
        with tqdm(total=total, unit="package", desc="go build", disable=None) as bar:
            # etcd apart: Go would name its binary by its module, `server`.
            targets = {str(folder / "etcd"): [packages["etcd"]]}
            targets[f"{folder}/"] = [p for name, p in packages.items() if name != "etcd"]
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
        return self._run(command, MODULE_FOLDER, self._environment)

    def _linker_flags(self) -> str:
        version = self._versions.kubernetes
        major, minor, *_ = version.removeprefix("v").split(".")
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        return " ".join(["-s -w", *(f"-X {_VERSION_PACKAGE}.{k}={v}" for k, v in values.items())])


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
    finally:
        if process.poll() is None:
            process.terminate()
        code = process.wait()
    if code != 0:
        shown = "\n".join(tail)
        raise SourceFailed(f"`{' '.join(command[:2])}` ended with exit code {code}:\n{shown}")
