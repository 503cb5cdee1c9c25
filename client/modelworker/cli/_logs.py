"""`kubectl modelworker logs`: the logs of all workers of an object, or of the operator."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelworker.cli import _gather
from modelworker.cli._cluster import Cluster, Target, core_path
from modelworker.cli._durations import seconds_of
from modelworker.cli._facts import selector
from modelworker.cli._failures import Code, Failure, Refused
from modelworker.cli._log_lines import NO_TIME, Following, Source, lines_of, moment
from modelworker.cli._names import kind_of
from modelworker.cli._operator import operator_pods
from modelworker.cli._world import World
from modelworker_api import kube

_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "red")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of the logs."""

    container: str | None = None
    follow: bool = False
    previous: bool = False
    tail: int | None = None
    since: str | None = None
    timestamps: bool = False

    def query(self) -> dict[str, str]:
        """The request for it; times always come, to bring the lines in order.

        Raises:
            Failure: for a duration that is none.
        """
        given: dict[str, object] = {
            "container": self.container,
            "timestamps": "true",
            "follow": "true" if self.follow else None,
            "previous": "true" if self.previous else None,
            "tailLines": self.tail if self.tail is None or self.tail >= 0 else None,
            "sinceSeconds": None if self.since is None else seconds_of(self.since),
        }
        return {key: str(value) for key, value in given.items() if value is not None}


def logs(
    world: World, target: Target, names: Sequence[str], wanted: Wanted, *, operator: bool
) -> Code:
    """Print the logs of the workers of these objects, or of the operator's pods.

    Raises:
        Failure: if there is no such object, or it has no pod.
    """
    if bool(names) == operator:
        raise Failure("name the objects whose logs to show, or pass --operator", Code.USAGE)
    if wanted.follow and wanted.previous:
        raise Failure("--previous shows a log that has ended; leave --follow out", Code.USAGE)
    query = wanted.query()
    cluster = world.connect(target)
    find = _operator_sources if operator else _worker_sources(cluster, target, names)
    sources = find(cluster, wanted)
    if not sources and not wanted.follow:
        raise Failure(
            f"{', '.join(names) or 'the operator'} has no pod; "
            "`kubectl modelworker status` tells why"
        )
    printer = Printer(world, wanted)
    if wanted.follow:
        Following(cluster, query, printer.line, world.clock).run(lambda: find(cluster, wanted))
    read = [_tagged(source, _all_lines(cluster, source, query)) for source in sources]
    for source, line in heapq.merge(*read, key=lambda one: moment(one[1])):
        printer.line(source, line)
    return printer.code


Find = Callable[[Cluster, Wanted], list[Source]]


def _worker_sources(cluster: Cluster, target: Target, names: Sequence[str]) -> Find:
    bodies = _gather.bodies(cluster, target, names)

    def find(cluster: Cluster, wanted: Wanted) -> list[Source]:
        container = wanted.container or kube.WORKER_CONTAINER
        return [
            Source(body["metadata"]["namespace"], pod["metadata"]["name"], container)
            for body in bodies
            for pod in _pods_of(cluster, body)
        ]

    return find


def _pods_of(cluster: Cluster, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    labels = selector(kind_of(body), body["metadata"]["name"])
    path = core_path("pods", body["metadata"]["namespace"])
    pods: list[Mapping[str, Any]] = cluster.get(path, labelSelector=labels)["items"]
    return pods


def _operator_sources(cluster: Cluster, wanted: Wanted) -> list[Source]:
    return [
        Source(pod["metadata"]["namespace"], pod["metadata"]["name"], wanted.container)
        for pod in operator_pods(cluster)
    ]


def _all_lines(cluster: Cluster, source: Source, query: Mapping[str, str]) -> Iterator[str]:
    """The lines of one pod; a container that has no log has one line that says why."""
    try:
        yield from lines_of(cluster, source, query)
    except Refused as error:
        if error.denied:
            raise
        yield f"{NO_TIME} (no log: {error.said})"


def _tagged(source: Source, lines: Iterable[str]) -> Iterator[tuple[Source, str]]:
    return ((source, line) for line in lines)


class Printer:
    """Prints lines, each with its pod before it."""

    def __init__(self, world: World, wanted: Wanted) -> None:
        self._console = world.console
        self._timestamps = wanted.timestamps
        self._colours: dict[str, str] = {}
        self.code = Code.OK

    def line(self, source: Source, line: str) -> None:
        """Print one line as the API server gives it, with its time at its beginning."""
        from rich.text import Text  # noqa: PLC0415 - it is loaded by now

        time, _, words = line.partition(" ")
        if time == NO_TIME:
            self.code = Code.FAILED
        elif self._timestamps:
            words = line
        pod = source.pod
        colour = self._colours.setdefault(pod, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._console.print(Text.assemble((pod, colour), " ", words))
