"""The lines of pods' logs as they come: in order of their times, and across restarts."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from modelworker.cli._cluster import Cluster, core_path
from modelworker.cli._failures import Failure, Refused

LOOK_SECONDS: Final = 2.0
"""Between two looks for pods that came and containers that began again."""
NO_TIME: Final = "-"
"""In place of a time; it sorts before all times."""


@dataclass(frozen=True, slots=True)
class Source:
    """A pod whose log is read."""

    namespace: str
    pod: str
    container: str | None


def lines_of(cluster: Cluster, source: Source, query: Mapping[str, str]) -> Iterator[str]:
    """The lines of one pod's log.

    Raises:
        Failure: if it cannot be read, or there is none.
    """
    container = {"container": source.container} if source.container else {}
    path = core_path("pods", source.namespace, source.pod) + "/log"
    yield from cluster.lines(path, **{**query, **container})


def moment(line: str) -> str:
    """The time of a line, so that it sorts: fractions of a second differ in their length."""
    return line.partition(" ")[0].removesuffix("Z")


class Following:
    """Hands on lines as they come, also of pods that come and of containers that restart."""

    def __init__(
        self,
        cluster: Cluster,
        query: Mapping[str, str],
        show: Callable[[Source, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._query = query
        self._show = show
        self._clock = clock
        self._got: queue.SimpleQueue[tuple[Source, str] | Source | Failure] = queue.SimpleQueue()
        self._under_way: set[Source] = set()
        self._last: dict[Source, str] = {}

    def run(self, find: Callable[[], Sequence[Source]]) -> NoReturn:
        """Follow the sources that `find` gives, now and later, until Ctrl-C.

        Raises:
            Failure: if the logs may not be read.
        """
        look_at = self._clock()
        while True:
            if self._clock() >= look_at:
                look_at = self._clock() + LOOK_SECONDS
                for source in find():
                    self._begin(source)
            try:
                self._take(self._got.get(timeout=LOOK_SECONDS))
            except queue.Empty:
                continue

    def _take(self, got: tuple[Source, str] | Source | Failure) -> None:
        if isinstance(got, Failure):
            raise got
        if isinstance(got, Source):
            self._under_way.discard(got)
            return
        source, line = got
        if moment(line) > self._last.get(source, ""):
            self._last[source] = moment(line)
            self._show(source, line)

    def _begin(self, source: Source) -> None:
        if source in self._under_way:
            return
        self._under_way.add(source)
        query = dict(self._query)
        if source in self._last:
            # Its container began again: what was shown is not asked for a second time.
            query = {key: value for key, value in query.items() if key not in _BEGINNING}
            query["sinceTime"] = self._last[source].partition(".")[0] + "Z"
        threading.Thread(target=self._read, args=(source, query), daemon=True).start()

    def _read(self, source: Source, query: Mapping[str, str]) -> None:
        try:
            for line in lines_of(self._cluster, source, query):
                self._got.put((source, line))
        except Refused as error:
            if error.denied:
                self._got.put(error)
        except Failure as error:
            self._got.put(error)
        self._got.put(source)


_BEGINNING: Final = ("tailLines", "sinceSeconds")
