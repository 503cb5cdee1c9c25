"""Named clusters that live on after the command that started them."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

import psutil
from filelock import FileLock

from modelworker_devcluster import binaries, settings
from modelworker_devcluster.choices import Choices
from modelworker_devcluster.errors import DevClusterError, StartFailed
from modelworker_devcluster.layout import Layout

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05
# The start time of a process is computed from the boot time, which the clock's
# corrections move a little.
_SAME_START_S = 2.0


class State(StrEnum):
    """What a named cluster does."""

    STOPPED = "Stopped"
    STARTING = "Starting"
    RUNNING = "Running"
    DEGRADED = "Degraded"
    """A component ended."""
    CRASHED = "Crashed"
    """The cluster ended without `down`; its files are left."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the daemon of a named cluster says about itself.

    Attributes:
        pid: the daemon's process id.
        started: when that process started, in seconds since the epoch.
        choices: what was asked for.
        server: the API server's URL; empty until the cluster is ready.
        binaries: the folder with kubectl; empty until the cluster is ready.
        pids: the process ids of the components; empty until the cluster is ready.
    """

    pid: int
    started: float
    choices: Choices
    server: str
    binaries: str
    pids: Mapping[str, int]


class Instance:
    """The cluster of one name, running or not."""

    def __init__(self, name: str) -> None:
        """Name a cluster; nothing happens yet.

        Raises:
            DevClusterError: the name is no lower-case word of at most 40 characters.
        """
        if _NAME.fullmatch(name) is None:
            raise DevClusterError(
                f"{name!r} cannot be a cluster's name: use up to 40 lower-case letters, digits "
                "and inner dashes"
            )
        self.name = name
        self.layout = Layout(settings.state_folder() / name)
        self._record_file = self.layout.directory / "instance.json"

    def record(self) -> Record | None:
        """What the daemon wrote last, whether it runs or not; None if there is nothing."""
        try:
            read = json.loads(self._record_file.read_text())
            return Record(**read | {"choices": Choices(**read["choices"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, record: Record) -> None:
        """Replace the record; a reader sees the old one or the new one."""
        part = self._record_file.with_suffix(".part")
        part.write_text(json.dumps(asdict(record)))
        part.rename(self._record_file)

    def state(self) -> State:
        """What the cluster does at this moment."""
        record = self.record()
        if _daemon(record) is None or record is None:
            return State.CRASHED if self.layout.directory.exists() else State.STOPPED
        if not record.server:
            return State.STARTING
        if all(psutil.pid_exists(pid) for pid in record.pids.values()):
            return State.RUNNING
        return State.DEGRADED

    def running(self) -> Record:
        """The record of a cluster that runs.

        Raises:
            DevClusterError: it does not.
        """
        record = self.record()
        if record is None or _daemon(record) is None or not record.server:
            raise DevClusterError(
                f"devcluster {self.name} does not run (it is {self.state()}); start it with "
                f"`python -m modelworker_devcluster up --name {self.name}`"
            )
        return record

    def up(self, choices: Choices, say: Callable[[str], None]) -> Record:
        """Start the cluster if it does not run, and return when it is ready.

        Args:
            choices: what it is to have.
            say: is told each step in a few words.

        Raises:
            BinariesNotFound: there are no Kubernetes binaries and none can be had.
            DevClusterError: it runs with other choices, or cannot start.
        """
        binaries.locate(say)  # may take minutes: not while others wait for the lock
        with self._lock():
            record = self.record()
            if _daemon(record) is None or record is None:
                if self.layout.directory.exists():
                    say("removing the files of a cluster that ended without `down`")
                    self._remove()
                self._start(choices, say)
            elif record.choices != choices:
                raise DevClusterError(
                    f"devcluster {self.name} runs with {record.choices}, not with "
                    f"{choices}; end it first with "
                    f"`python -m modelworker_devcluster down --name {self.name}`"
                )
            else:
                say(f"devcluster {self.name} runs already")
            return self.running()

    def down(self) -> bool:
        """End the cluster and remove its files.

        Returns:
            Whether there was one.
        """
        with self._lock():
            existed = self.layout.directory.exists()
            daemon = _daemon(self.record())
            if daemon is not None:
                _end(daemon)
            self._remove()
            return existed

    def _lock(self) -> FileLock:
        file = self.layout.directory.with_name(f".{self.name}.lock")
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(file)

    def _remove(self) -> None:
        # After a crash the supervisor may still be ending processes that write here.
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self.layout.directory.exists():
            shutil.rmtree(self.layout.directory, ignore_errors=True)
            if time.monotonic() > deadline:
                raise DevClusterError(f"cannot remove {self.layout.directory}; remove it by hand")

    def _start(self, choices: Choices, say: Callable[[str], None]) -> None:
        log = self.layout.log("daemon")
        log.parent.mkdir(parents=True, mode=0o700)
        with log.open("ab") as stderr:
            daemon = subprocess.Popen(
                [
                    *(sys.executable, "-m", "modelworker_devcluster.daemon"),
                    *(self.name, json.dumps(asdict(choices))),
                ],
                env=settings.package_environment({}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        try:
            for line in daemon.stdout or ():
                say(line.rstrip())
        except BaseException:
            _end(psutil.Process(daemon.pid))
            self._remove()
            raise
        # The daemon closes its output when it is ready, and when it ends.
        if self.state() is not State.RUNNING:
            code = daemon.wait(_STOP_TIMEOUT_S)
            shown = log.read_text(errors="replace").strip()
            self._remove()
            raise StartFailed(f"devcluster {self.name} did not start ({code}): {shown}")


def me() -> tuple[int, float]:
    """The id and the start time of this process, for a `Record`."""
    process = psutil.Process()
    return process.pid, process.create_time()


def _daemon(record: Record | None) -> psutil.Process | None:
    """The process of a record, if it is still the one that wrote it."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()  # its supervisor ends the rest
            process.wait(_STOP_TIMEOUT_S)
