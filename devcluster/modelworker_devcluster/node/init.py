"""The first process in the namespaces of a node: `python init.py READY STATE`.

It makes the node's own view of the file system, marks that with the file READY, and
buries orphans until it is killed; the kernel then kills all that runs on the node, and
drops its mounts and its network. It is started by path and imports nothing of this
package.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

_KEPT_HOST_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet sets for the whole machine. Here it sees it set already, and leaves it."""

_WRITTEN = ("/var/lib", "/var/log")
"""Where programs of a node write to fixed paths."""


def main(ready: Path, state: Path) -> None:
    """Prepare the namespaces, then be their init.

    Args:
        ready: the file to make when all is prepared.
        state: a folder for what is written to the fixed paths.
    """
    for path in _WRITTEN:
        upper, work = state / path.lstrip("/"), state / f"{path.lstrip('/')}.work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        _do("mount", "-t", "overlay", "overlay", "-o", options, path)
    _do("mount", "-t", "tmpfs", "tmpfs", "/run", "-o", "mode=0755")
    for name, value in _KEPT_HOST_SETTINGS.items():
        seen = state / name
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.write_text(f"{value}\n")
        _do("mount", "--bind", str(seen), f"/proc/sys/{name}")
    _do("mount", "--make-rshared", "/")
    _do("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    ready.touch()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        while _bury():
            pass


def _bury() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return False


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
