"""Commands that are run to their end, for every kind of cluster."""

import subprocess
from collections.abc import Mapping, Sequence

from modelworker_devcluster.errors import KubectlFailed

Completed = subprocess.CompletedProcess[str]


def completed(argv: Sequence[str], environment: Mapping[str, str], stdin: str = "") -> Completed:
    """Run a command to its end."""
    return subprocess.run(
        argv, env=environment, input=stdin, capture_output=True, text=True, check=False
    )


def kubectl_output(
    args: Sequence[str],
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: str | None,
    check: bool,
) -> str:
    """The standard output of kubectl.

    Args:
        args: kubectl's arguments, for the error.
        command: the whole command line that has them.
        environment: its environment.
        stdin: its standard input, for `-f -`.
        check: whether an exit code other than 0 is an error.

    Raises:
        KubectlFailed: it ended with an exit code other than 0, and `check` is set.
    """
    done = completed(command, environment, stdin or "")
    if check and done.returncode != 0:
        raise KubectlFailed(" ".join(("kubectl", *args)), done.returncode, done.stderr)
    return done.stdout


def say_nothing(_: str) -> None:
    """For who does not want to be told of progress."""
