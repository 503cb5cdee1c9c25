"""Which worker gets the next call: by its load, or by what it has in its cache.

`choose` and `load_of` are pure. `Balancer` holds the counts and what the workers report; it
belongs to one event loop.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from modelworker import _affinity

COOL_DOWN_SECONDS: Final = 1.0
LONGEST_COOL_DOWN_SECONDS: Final = 15.0
REPORT_SECONDS: Final = 10.0
"""How long what a worker reported counts: the calls of others that it saw are over, or have
been reported again by then."""
FULL_CACHE: Final = 0.95
"""Share of the KV cache in use from which a worker puts requests off, or does them over."""


Rank = TypeVar("Rank", int, tuple[bool, int])


class Load(NamedTuple):
    """What a worker reports with an answer."""

    requests: int
    """Running and waiting."""
    full: bool
    """Whether its KV cache is nearly full."""


class Report(NamedTuple):
    """What is left of a worker's report once our own calls are taken off."""

    foreign: int
    """Requests of other clients."""
    full: bool
    until: float
    """On the balancer's clock."""


def load_of(header: str | None) -> Load | None:
    """The load in a header `wire.HEADER_LOAD`; None where there is none, or it is nonsense."""
    if header is None:
        return None
    try:
        running, waiting, used = header.split()
        requests = int(running) + int(waiting)
        share = 0.0 if used == "-" else float(used)
    except ValueError:
        return None
    if requests < 0 or not math.isfinite(share):
        return None
    return Load(requests, share > FULL_CACHE)


def choose(
    workers: Sequence[str],
    outstanding: Mapping[str, int],
    *,
    reports: Mapping[str, Report] | None = None,
    cooling: Collection[str] = (),
    luck: float = 0.0,
    affinity: str | None = None,
) -> str:
    """The worker for the next call.

    With a key, the worker that the key belongs to, while it has room (`_affinity.place`).
    Else, where no calls of others are known, the worker with the fewest of ours: these
    counts are exact, so a batch spreads evenly. Where such calls are known, the less loaded
    of two workers drawn at random (power of two choices; Mitzenmacher, 2001): reports are
    late, and clients that all went to the one that looked best would fall on it together.
    A worker whose cache is nearly full comes after one whose is not.

    Args:
        workers: base URLs of the ready workers that this call has not tried.
        outstanding: calls of ours under way by base URL.
        reports: what workers reported lately.
        cooling: workers that could not be reached or were full lately: chosen only if
            nothing else is.
        luck: uniform in [0, 1): draws the two, and decides among equals.
        affinity: the key of a call that looks for a cache.

    Raises:
        ValueError: if there are no workers.
    """
    candidates = [worker for worker in workers if worker not in cooling] if cooling else workers
    candidates = candidates or workers
    if not candidates:
        raise ValueError("no workers to choose from")
    if not reports:
        if affinity is None:
            return _least(candidates, [outstanding.get(worker, 0) for worker in candidates], luck)
        reports = {}
    loads = {w: outstanding.get(w, 0) + _foreign(reports.get(w)) for w in candidates}
    full = {w for w in candidates if w in reports and reports[w].full}
    if affinity is not None:
        return _affinity.place(affinity, loads, full)
    compared, rest = list(loads), luck
    if any(_foreign(reports.get(worker)) for worker in compared):
        compared, rest = _two_of(compared, luck)
    return _least(compared, [(worker in full, loads[worker]) for worker in compared], rest)


def _least(workers: Sequence[str], ranks: Sequence[Rank], luck: float) -> str:
    """The worker of the least rank; luck decides among equals."""
    least = min(ranks)
    equals = [worker for worker, rank in zip(workers, ranks, strict=True) if rank == least]
    return equals[int(luck * len(equals))]


def _foreign(report: Report | None) -> int:
    return report.foreign if report else 0


def _two_of(workers: Sequence[str], luck: float) -> tuple[list[str], float]:
    """Two different workers, and the luck that is left for what follows."""
    if len(workers) <= 2:
        return list(workers), luck
    scaled = luck * len(workers)
    first = int(scaled)
    scaled = (scaled - first) * (len(workers) - 1)
    second = int(scaled)
    return [workers[first], workers[second + (second >= first)]], scaled - second


@dataclass
class Balancer:
    """Calls under way, what workers reported, and those that did not serve lately."""

    clock: Callable[[], float]
    luck: Callable[[], float]
    """Uniform in [0, 1): decides among equals, so that many clients do not march in step."""
    outstanding: dict[str, int] = field(default_factory=dict)
    _reports: dict[str, Report] = field(default_factory=dict)
    _failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def pick(self, workers: Sequence[str], affinity: str | None = None) -> str:
        """The worker for the next call, of at least one."""
        cooling: list[str] = []
        if self._failures or self._reports:
            now = self.clock()
            cooling = [worker for worker, (_, until) in self._failures.items() if until > now]
            for worker in [w for w, report in self._reports.items() if report.until <= now]:
                del self._reports[worker]
        return choose(
            workers,
            self.outstanding,
            reports=self._reports,
            cooling=cooling,
            luck=self.luck(),
            affinity=affinity,
        )

    def begin(self, worker: str) -> None:
        """A call to this worker starts."""
        self.outstanding[worker] = self.outstanding.get(worker, 0) + 1

    def end(self, worker: str) -> None:
        """A call to this worker is over, however it ended."""
        left = self.outstanding[worker] - 1
        if left:
            self.outstanding[worker] = left
        else:
            del self.outstanding[worker]

    def report(self, worker: str, header: str | None) -> None:
        """This worker says how loaded it is with an answer, or the beginning of one.

        Our calls to it are part of what it says, so they are taken off; those that begin or
        end later are counted exactly. Whether it still counted the call that it answers is
        not known: that one is taken off too, as our own call must not look like another's.
        """
        if header is None:
            return
        load = load_of(header)
        foreign = 0 if load is None else load.requests - self.outstanding.get(worker, 0)
        if load is None or (foreign <= 0 and not load.full):
            self._reports.pop(worker, None)
        else:
            until = self.clock() + REPORT_SECONDS
            self._reports[worker] = Report(max(0, foreign), load.full, until)

    def unreachable(self, worker: str) -> None:
        """No connection to this worker, or it broke: avoid it a while, longer each time."""
        times = self._failures.get(worker, (0, 0.0))[0] + 1
        pause = min(COOL_DOWN_SECONDS * 2 ** min(times - 1, 10), LONGEST_COOL_DOWN_SECONDS)
        self._cool(worker, times, pause)

    def turned_away(self, worker: str, seconds: float) -> None:
        """This worker is full, and asked to be left alone for so long."""
        times = self._failures.get(worker, (0, 0.0))[0]
        self._cool(worker, times, min(seconds, LONGEST_COOL_DOWN_SECONDS))

    def reached(self, worker: str) -> None:
        """This worker answered."""
        self._failures.pop(worker, None)

    def _cool(self, worker: str, times: int, pause: float) -> None:
        now = self.clock()
        recent = now - LONGEST_COOL_DOWN_SECONDS
        self._failures = {w: f for w, f in self._failures.items() if f[1] > recent}
        self._failures[worker] = (times, now + pause)
