"""One command with a cluster of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from modelworker_devcluster import settings
from modelworker_devcluster.choices import Choices
from modelworker_devcluster.supervisor import adopt_orphans, kill_descendants, reap_all

_GRACE_S = 10.0


class Cluster(Protocol):
    """What a command can run with."""

    def guard(self, pid: int) -> None:
        """Have a process killed when the cluster ends."""

    def stop(self) -> None:
        """End the cluster, if it runs."""


def run(command: Sequence[str], choices: Choices, say: Callable[[str], None]) -> int:
    """Start a cluster, run a command with its KUBECONFIG, and take the cluster down.

    What the command leaves in the background is ended too. For a process that does
    nothing else.

    Args:
        command: the command and its arguments.
        choices: what the cluster is to have.
        say: is told each step in a few words.

    Returns:
        The command's exit code, 128 + N if signal N ended it, 127 if it does not exist.

    Raises:
        DevClusterError: the cluster cannot start.
    """
    cluster = choices.cluster()

    def start() -> tuple[Sequence[str], Mapping[str, str]]:
        cluster.start(say)
        if choices.operator:
            cluster.install_operator(say)
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        return command, settings.environment(environment, path=cluster.binaries)

    return run_with(cluster, start)


def run_with(cluster: Cluster, start: Callable[[], tuple[Sequence[str], Mapping[str, str]]]) -> int:
    """Start a cluster, run a command, and take the cluster down.

    What the command leaves in the background is ended too. For a process that does
    nothing else.

    Args:
        cluster: what `start` starts.
        start: starts it, and gives the command and its environment.

    Returns:
        The command's exit code, 128 + N if signal N ended it, 127 if it does not exist.
    """
    adopt_orphans()
    with _handled((signal.SIGTERM, signal.SIGHUP), lambda number: sys.exit(128 + number)):
        try:
            command, environment = start()
            return run_command(command, environment, cluster.guard)
        finally:
            cluster.stop()
            kill_descendants(reap_all)  # what the command left in the background


def run_command(
    command: Sequence[str], environment: Mapping[str, str], guard: Callable[[int], None]
) -> int:
    """Run a command in our place: with our terminal, our signals, and ended when we are.

    Args:
        command: the command and its arguments.
        environment: its environment.
        guard: is given its process id, to end it should we be killed.

    Returns:
        Its exit code, 128 + N if signal N ended it, 127 if it does not exist.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def handle(number: int) -> None:
        if process is None:
            early.append(number)
        elif number != signal.SIGINT or not _in_foreground():
            # A terminal sends SIGINT to the command too; twice would cut its own end short.
            hand_on(process, number)

    def hand_on(process: subprocess.Popen[bytes], number: int) -> None:
        if number == signal.SIGINT:
            process.send_signal(number)
        elif number == signal.SIGALRM:
            process.kill()
        else:
            process.terminate()
            signal.setitimer(signal.ITIMER_REAL, _GRACE_S)

    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM), handle):
        try:
            process = subprocess.Popen(command, env=environment)
        except OSError as error:
            print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        guard(process.pid)
        for number in early:
            hand_on(process, number)
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
