"""Which kind of node a machine can have."""

import shutil
from collections.abc import Callable

from modelworker_devcluster import settings
from modelworker_devcluster.commands import completed
from modelworker_devcluster.node import kind
from modelworker_devcluster.node.cluster import RealNode
from modelworker_devcluster.node.face import Node


def choose(
    *, which: Callable[[str], str | None] = shutil.which, run: kind.Run | None = None
) -> Node:
    """A node for this machine, not started: from kind where it and Docker work, else our own.

    Args:
        which: finds a command.
        run: how commands are run, None for child processes.
    """
    run = run or (lambda argv: completed(argv, settings.environment({})))
    return kind.KindNode() if kind.is_usable(which, run) else RealNode()
