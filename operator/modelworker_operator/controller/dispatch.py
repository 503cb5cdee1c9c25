"""Which worker gets the next request: the one with the shortest queue."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelworker_operator.controller.workers import Worker

_REMEMBERED: Final = 10_000
"""Workers, of which those that were given a request last are kept."""


@dataclass(slots=True)
class _Given:
    """Requests that a worker was given since a report."""

    report: object
    count: int = 0


class Dispatcher:
    """Remembers to which workers clients were sent since these last told of their load.

    A worker reports every few seconds. Without the requests given in between, every client
    that asks before the next report would be sent to the same worker.
    """

    def __init__(self) -> None:
        self._given: OrderedDict[str, _Given] = OrderedDict()

    def choose(self, workers: Sequence[Worker]) -> Worker | None:
        """The worker for one more request, which is counted; None where there is none.

        One whose reports stay away is chosen only where every other one is as silent.
        """
        if not workers:
            return None
        chosen = min(workers, key=lambda one: (one.silent, self.queue(one) / one.speed))
        given = self._since_report(chosen)
        given.count += 1
        self._given[chosen.id] = given
        self._given.move_to_end(chosen.id)
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        return chosen

    def queue(self, worker: Worker) -> int:
        """Requests in the worker, as far as is known."""
        return worker.load + self._since_report(worker).count

    def _since_report(self, worker: Worker) -> _Given:
        given = self._given.get(worker.id)
        if given is None or given.report is not worker.report:
            return _Given(worker.report)
        return given
