"""Waiting for a process to do what it was started for."""

import time
from collections.abc import Callable

from modelworker_devcluster.errors import StartFailed
from modelworker_devcluster.layout import Layout
from modelworker_devcluster.processes import Processes

_TIMEOUT_S = 120.0
_POLL_S = 0.05
_TAIL_LINES = 15


def await_process(
    probe: Callable[[], bool], what: str, name: str, *, processes: Processes, layout: Layout
) -> None:
    """Wait until `probe` says yes.

    Args:
        probe: asked again and again.
        what: what is waited for, in a few words.
        name: the process that it depends on.
        processes: what started that process.
        layout: where its log is.

    Raises:
        StartFailed: the process ended, or it takes too long; with the end of its log.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while not probe():
        code = processes.codes()[name]
        if code is not None:
            raise _failed(layout, name, f"{name} ended with exit code {code}")
        if time.monotonic() > deadline:
            raise _failed(layout, name, f"no {what} after {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)


def _failed(layout: Layout, name: str, why: str) -> StartFailed:
    log = layout.log(name)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    return StartFailed(f"{why}; the end of its log {log}:\n{tail}")
