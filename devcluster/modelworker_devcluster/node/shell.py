"""One command with a node of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelworker_devcluster.node.cluster import RealNode
from modelworker_devcluster.run import run_with
from modelworker_devcluster.running import Progress


def run(command: Sequence[str], *, images: Sequence[Path], inside: bool, say: Progress) -> int:
    """Start a node, run a command beside it or on it, and end the node.

    For a process that does nothing else.

    Args:
        command: the command and its arguments.
        images: archives with images that the node is to have.
        inside: whether to run the command on the node, not on the outside machine.
        say: is told each step in a few words.

    Returns:
        The command's exit code, 128 + N if signal N ended it, 127 if it does not exist.

    Raises:
        DevClusterError: the node cannot start, or refuses an image.
    """
    node = RealNode()

    def start() -> tuple[Sequence[str], Mapping[str, str]]:
        node.start(say)
        for archive in images:
            say(f"loading {archive}")
            node.load_image(archive)
        wrap = node.inside_command if inside else node.outside_command
        return wrap(command), node.environment({})

    return run_with(node, start)
