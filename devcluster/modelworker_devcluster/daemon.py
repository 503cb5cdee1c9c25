"""The process that owns a named cluster: `python -m modelworker_devcluster.daemon NAME CHOICES`.

It tells its progress on stdout, closes that when the cluster is ready, and ends the
cluster on SIGTERM.
"""

import json
import os
import signal
import sys
from dataclasses import replace

from modelworker_devcluster.choices import Choices
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.instances import Instance, Record, me


def main(name: str, choices: Choices) -> None:
    """Run the cluster `name` until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    instance = Instance(name)
    pid, started = me()
    record = Record(pid, started, choices, server="", binaries="", pids={})
    instance.write(record)
    cluster = choices.cluster(name, instance.layout.directory)
    cluster.start(_tell)
    try:
        if choices.operator:
            cluster.install_operator(_tell)
        instance.write(
            replace(
                record,
                server=cluster.server,
                binaries=str(cluster.binaries),
                pids=cluster.pids,
            )
        )
        os.dup2(2, 1)  # stdout, now the log: whoever waits for it to close goes on
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.sigwait({signal.SIGTERM})
    finally:
        cluster.stop()


def _tell(step: str) -> None:
    try:
        print(step, flush=True)
    except BrokenPipeError:  # `up` was killed; the cluster was asked for all the same
        os.dup2(2, 1)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Choices(**json.loads(sys.argv[2])))
    except DevClusterError as error:
        sys.exit(str(error))
