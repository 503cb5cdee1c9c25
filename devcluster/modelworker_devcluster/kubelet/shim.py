"""The parent of one container's processes, run as a program of its own.

    shim.py PID_FILE COMMAND [ARGUMENT...]

It starts the command in a session of its own and ends with its exit code, 128 + n
for signal n. One byte on stdin is an order: `T` sends the command SIGTERM, `K`
kills everything. The end of stdin, which is what the kubelet's death looks like,
kills everything as well. When the command ends, what it left running is killed, as
when the first process of a container ends; being the subreaper of its descendants,
the shim finds those that left the session too.

It is started by path and imports the standard library alone: it is small, and
there is one for each container.
"""

import ctypes
import os
import select
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_FAILED_TO_START = 128


def main(pid_file: Path, argv: list[str]) -> int:
    """Run `argv` and return its exit code."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    command = _start(argv)
    # Only now, so that the command does not inherit it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pid_file.write_text(f"{command}\n")
    orders = [0]
    code = None
    while code is None:
        readable, _, _ = select.select([*orders, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
        code = _reap(command)
        if code is None and 0 in readable:
            order = os.read(0, 1)
            if order == b"T":
                os.kill(command, signal.SIGTERM)
            else:
                orders = []
                _kill_descendants()
    pid_file.unlink(missing_ok=True)
    while _kill_descendants():
        _reap(command, block=True)
    return code


def _start(argv: list[str]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the shim died before the line above
            os._exit(_FAILED_TO_START)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(argv[0], argv)  # noqa: S606 - the command is the pod's
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    os._exit(_FAILED_TO_START)


def _reap(command: int, *, block: bool = False) -> int | None:
    """Collect dead children; the exit code of the command when it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
        if block:
            return code


def _kill_descendants() -> bool:
    """Send SIGKILL to every descendant; False when there is none."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything; the parent is the second field
            # after it.
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(children.get(os.getpid(), []))
    for pid in found:
        found += children.get(pid, [])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
