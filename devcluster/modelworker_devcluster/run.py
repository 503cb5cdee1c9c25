"""One command with a cluster of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from modelworker_devcluster import settings
from modelworker_devcluster.cluster import DevCluster

_GRACE_S = 10.0


def run(command: Sequence[str], node: Mapping[str, str] | None, say: Callable[[str], None]) -> int:
    """Start a cluster, run a command with its KUBECONFIG, and take the cluster down.

    Args:
        command: the command and its arguments.
        node: what to add to the node's capacity; None for no node.
        say: is told each step in a few words.

    Returns:
        The command's exit code, 128 + N if signal N ended it, 127 if it does not exist.

    Raises:
        DevClusterError: the cluster cannot start.
    """
    cluster = DevCluster(kubelet=node is not None, node=node)
    with _handled((signal.SIGTERM, signal.SIGHUP), lambda number: sys.exit(128 + number)):
        cluster.start(say)
        try:
            environment = settings.environment(
                path=cluster.binaries, KUBECONFIG=str(cluster.kubeconfig)
            )
            return run_command(command, environment, cluster.guard)
        finally:
            cluster.stop()


def run_command(
    command: Sequence[str], environment: Mapping[str, str], guard: Callable[[int], None]
) -> int:
    """Run a command in our place: it gets our terminal, our signals and an end with us.

    Args:
        command: the command and its arguments.
        environment: its environment.
        guard: is given its process id, to end it should we be killed.

    Returns:
        Its exit code, 128 + N if signal N ended it, 127 if it does not exist.
    """
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    guard(process.pid)

    def interrupt(number: int) -> None:
        # A terminal has sent it to the command too; twice would cut its own end short.
        if not _in_foreground():
            process.send_signal(number)

    def end(_: int) -> None:
        process.terminate()
        signal.setitimer(signal.ITIMER_REAL, _GRACE_S)

    with (
        _handled((signal.SIGINT,), interrupt),
        _handled((signal.SIGTERM, signal.SIGHUP), end),
        _handled((signal.SIGALRM,), lambda _: process.kill()),
    ):
        code = _wait(process)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        # Not for ever: a signal that comes just before the wait would not be handled.
        with suppress(subprocess.TimeoutExpired):
            return process.wait(1.0)


def _in_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


@contextmanager
def _handled(signals: Sequence[signal.Signals], handler: Callable[[int], object]) -> Iterator[None]:
    def handle(number: int, _: FrameType | None) -> None:
        handler(number)

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
