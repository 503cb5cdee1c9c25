"""Which worker gets the next call: the one with the fewest calls of ours under way.

`choose` is pure. `Balancer` holds the counts; it belongs to one event loop.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

COOL_DOWN_SECONDS: Final = 1.0
LONGEST_COOL_DOWN_SECONDS: Final = 15.0


def choose(
    workers: Sequence[str],
    outstanding: Mapping[str, int],
    *,
    cooling: Collection[str] = (),
    luck: float = 0.0,
) -> str:
    """The worker with the fewest outstanding calls.

    Args:
        workers: base URLs of the ready workers that this call has not tried.
        outstanding: calls under way by base URL.
        cooling: workers that could not be reached lately: chosen only if nothing else is.
        luck: uniform in [0, 1): decides among equals.

    Raises:
        ValueError: if there are no workers.
    """
    candidates = [worker for worker in workers if worker not in cooling] or list(workers)
    if not candidates:
        raise ValueError("no workers to choose from")
    fewest = min(outstanding.get(worker, 0) for worker in candidates)
    equals = [worker for worker in candidates if outstanding.get(worker, 0) == fewest]
    return equals[int(luck * len(equals))]


@dataclass
class Balancer:
    """Calls under way, and the workers that could not be reached lately."""

    clock: Callable[[], float]
    luck: Callable[[], float]
    """Uniform in [0, 1): decides among equals, so that many clients do not march in step."""
    outstanding: dict[str, int] = field(default_factory=dict)
    _failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def pick(self, workers: Sequence[str]) -> str:
        """The worker for the next call, of at least one."""
        cooling: list[str] = []
        if self._failures:
            now = self.clock()
            cooling = [worker for worker, (_, until) in self._failures.items() if until > now]
        return choose(workers, self.outstanding, cooling=cooling, luck=self.luck())

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

    def unreachable(self, worker: str) -> None:
        """No connection to this worker: avoid it for a while, longer each time."""
        now = self.clock()
        recent = now - LONGEST_COOL_DOWN_SECONDS
        self._failures = {w: f for w, f in self._failures.items() if f[1] > recent}
        times = self._failures.get(worker, (0, 0.0))[0] + 1
        pause = min(COOL_DOWN_SECONDS * 2 ** min(times - 1, 10), LONGEST_COOL_DOWN_SECONDS)
        self._failures[worker] = (times, now + pause)

    def reached(self, worker: str) -> None:
        """This worker answered."""
        self._failures.pop(worker, None)
