"""The parent of every process of one cluster, run as a program of its own.

It reads one JSON request a line on stdin and answers each with one line on
stdout. When its stdin closes, its own parent dies (however that happened) or
SIGTERM arrives, it kills every process that descends from it and ends. It is the
subreaper of its descendants, so that an orphan cannot leave the tree, and its
children die with it should it be killed itself. Linux only.

It is started by path and imports nothing of this package, which keeps it small.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

_STDIN = 0
_STDOUT = 1
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CGROUPS_TIMEOUT_S = 10.0
_LIBC = ctypes.CDLL(None)


class Supervisor:
    """Starts, signals and buries the processes of one cluster."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._guarded: list[psutil.Process] = []
        adopt_orphans()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; a failure is an answer too, under `error`."""
        try:
            match request["do"]:
                case "start":
                    return {"pid": self._start(request)}
                case "signal":
                    self._signal(request["name"], request["signal"])
                    return {}
                case "guard":
                    self._guarded.append(psutil.Process(request["pid"]))
                    return {}
                case _:
                    return {"codes": {name: c.poll() for name, c in self._children.items()}}
        except (OSError, psutil.Error) as error:
            return {"error": str(error)}

    def reap(self) -> None:
        """Collect the exit codes of our children and of orphans that came to us."""
        own = {child.pid: child for child in self._children.values()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in own:
                own[found.si_pid].poll()
            else:
                os.waitpid(found.si_pid, 0)

    def kill_all(self) -> None:
        """Kill every descendant and every guarded process with its descendants."""
        for process in self._guarded:
            for victim in _family(process):
                _kill(victim)
        kill_descendants(self.reap)

    def _start(self, request: dict[str, Any]) -> int:
        name = request["name"]
        before = self._children.get(name)
        if before is not None and before.poll() is None:
            raise OSError(f"{name} runs already")
        with Path(request["log"]).open("ab") as log:
            child = subprocess.Popen(
                request["argv"],
                env=request["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._die_with_us,  # noqa: PLW1509 - this process has one thread
            )
        self._children[name] = child
        return child.pid

    def _die_with_us(self) -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._pid:  # it died before the line above
            os._exit(1)

    def _signal(self, name: str, number: int) -> None:
        child = self._children.get(name)
        if child is not None and child.poll() is None:
            os.killpg(child.pid, number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(reap: Callable[[], None]) -> None:
    """Kill every descendant, also those that are started meanwhile.

    Args:
        reap: collects the children that ended.
    """
    while victims := psutil.Process().children(recursive=True):
        for victim in victims:
            _kill(victim)
        reap()
        time.sleep(0.01)


def reap_all() -> None:
    """Collect every child that ended; for a process that waits for none of them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def remove_cgroups(folders: Sequence[str]) -> None:
    """Remove control groups and those below them, whose processes were killed a moment ago."""
    deadline = time.monotonic() + _CGROUPS_TIMEOUT_S
    for top in folders:
        for folder, _, _ in os.walk(top, topdown=False):
            while _is_busy(folder) and time.monotonic() < deadline:
                time.sleep(0.01)


def _is_busy(cgroup: str) -> bool:
    try:
        Path(cgroup).rmdir()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def main(remove: str, *cgroups: str) -> None:
    """Serve requests until the parent is gone; then remove the cgroups and the folder, if any."""
    # A fork of the parent keeps our stdin open, so watch the parent itself too.
    parent = os.pidfd_open(os.getppid())
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    supervisor = Supervisor()
    pending = b""
    try:
        while not ended:
            readable, _, _ = select.select([_STDIN, wake, parent], [], [])
            if wake in readable:
                os.read(wake, 4096)
            supervisor.reap()
            received = os.read(_STDIN, 1 << 16) if _STDIN in readable else None
            if parent in readable or received == b"":
                break
            *lines, pending = (pending + (received or b"")).split(b"\n")
            for line in lines:
                request = json.loads(line)
                answer = {"id": request["id"], **supervisor.answer(request)}
                os.write(_STDOUT, json.dumps(answer).encode() + b"\n")
    finally:
        supervisor.kill_all()
        remove_cgroups(cgroups)
        if remove:
            shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
