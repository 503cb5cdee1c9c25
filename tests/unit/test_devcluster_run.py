"""How `run` treats the command: exit codes and signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from modelworker_devcluster.run import run_command

RUN = """
import os, sys
from modelworker_devcluster import run
run._GRACE_S = 0.2
sys.exit(run.run_command(sys.argv[1:], dict(os.environ), lambda pid: None))
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(["true"], 0, id="0"),
        pytest.param(["sh", "-c", "exit 7"], 7, id="7"),
        pytest.param(["sh", "-c", "kill -9 $$"], 137, id="killed"),
        pytest.param(["no-such-command"], 127, id="missing"),
    ],
)
def test_the_exit_code_is_passed_on(command: Sequence[str], code: int) -> None:
    guarded: list[int] = []
    assert run_command(command, dict(os.environ), guarded.append) == code
    assert len(guarded) == (code != 127)


def test_the_command_gets_the_environment(capfd: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "KUBECONFIG": "/here"}
    run_command(["sh", "-c", "echo $KUBECONFIG"], environment, lambda _: None)
    assert capfd.readouterr().out == "/here\n"


@pytest.mark.parametrize(
    ("number", "script", "code"),
    [
        pytest.param(signal.SIGINT, "trap 'exit 3' INT", 3, id="SIGINT-is-the-commands"),
        pytest.param(signal.SIGTERM, "trap 'exit 4' TERM", 4, id="SIGTERM-is-the-commands"),
        pytest.param(signal.SIGHUP, "trap 'exit 5' TERM", 5, id="SIGHUP-ends-it"),
        pytest.param(signal.SIGTERM, "trap '' TERM", 137, id="a-deaf-one-is-killed"),
    ],
)
def test_signals_are_handed_on(number: signal.Signals, script: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "sh", "-c", f"{script}; echo; while :; do sleep 0.02; done"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(30) == code
