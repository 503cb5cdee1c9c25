"""The two machines of a node's cluster: namespaces that are joined by a link."""

from collections.abc import Sequence

from modelworker_devcluster import settings
from modelworker_devcluster.commands import completed
from modelworker_devcluster.errors import StartFailed
from modelworker_devcluster.node import commands
from modelworker_devcluster.node.places import Places
from modelworker_devcluster.processes import Processes
from modelworker_devcluster.waiting import await_process

NODE = "node"
OUTSIDE = "outside"


class Machines:
    """The node, where all of a cluster runs, and the outside, which reaches its address alone.

    Nothing of either is seen in the namespaces of the machine that both are on, and
    nothing is left when their processes are gone.

    Attributes:
        pids: the process that holds each, by name.
    """

    def __init__(self, places: Places, processes: Processes) -> None:
        """Make and join both.

        Raises:
            StartFailed: this machine does not allow it.
        """
        self.pids: dict[str, int] = {}
        self._places = places
        self._processes = processes
        ready = places.file("ready")
        self._start(OUTSIDE, commands.outside())
        self._start(NODE, commands.node(places, ready))
        await_process(ready.exists, "namespaces", NODE, processes=processes, layout=places.layout)
        for command in commands.links(self.pids[NODE], self.pids[OUTSIDE]):
            self.check(command)

    def node(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` on the node: its network, files and processes."""
        return [*commands.in_node(self.pids[NODE]), *argv]

    def node_network(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` as a process of this machine, in the node's network."""
        return [*commands.in_network(self.pids[NODE]), *argv]

    def outside(self, argv: Sequence[str]) -> list[str]:
        """A command that runs `argv` outside."""
        return [*commands.in_network(self.pids[OUTSIDE]), *argv]

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a program, in its namespaces already; its output goes to its log."""
        self._start(name, argv)

    def check(self, argv: Sequence[str]) -> str:
        """Run a short command and give its output.

        Raises:
            StartFailed: it failed.
        """
        done = completed(argv, settings.environment({}))
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise StartFailed(f"`{' '.join(argv)}` ended with exit code {done.returncode}: {said}")
        return done.stdout

    def _start(self, name: str, argv: Sequence[str]) -> None:
        layout = self._places.layout
        self.pids[name] = self._processes.start(
            name,
            argv,
            log=layout.log(name),
            env=settings.environment({"TMPDIR": str(layout.temporary)}),
        )
