"""What workers last said of themselves, in memory: pure, the clock is passed in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from modelworker_api import wire
from modelworker_operator.store import Key

PROGRESS_STEP: Final = 5
"""Percentage points by which progress has to move to be worth a write."""

_BURST: Final = 10
_PER_SECOND: Final = 1.0


@dataclass(slots=True)
class _Pod:
    owner: Key
    heartbeat: wire.Heartbeat
    reported: wire.Heartbeat
    received: float
    stale_after: float
    stale: bool = False


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Result of a look at every heartbeat: whose objects changed, and whether none count."""

    changed: frozenset[Key]
    frozen: bool


@dataclass(slots=True)
class Registry:
    """The last heartbeat of each pod, by uid, and when it came by the operator's own clock.

    Silence becomes a fact only in `sweep`: until then `beats` reports no age beyond the
    limit, so that a pass for some other reason does not run ahead of it.
    """

    _pods: dict[str, _Pod] = field(default_factory=dict)
    _allowances: dict[str, _Allowance] = field(default_factory=dict)
    _frozen: bool = False

    def __len__(self) -> int:
        """Pods that have reported."""
        return len(self._pods)

    def admits(self, uid: str, now: float) -> bool:
        """Whether the pod may report now: ten at once, one a second in the long run."""
        allowance = self._allowances.setdefault(uid, _Allowance(_BURST, now))
        earned = (now - allowance.at) * _PER_SECOND
        allowance.left, allowance.at = min(_BURST, allowance.left + earned), now
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True

    def record(
        self, uid: str, owner: Key, heartbeat: wire.Heartbeat, *, now: float, stale_after: float
    ) -> bool:
        """Keep a heartbeat; returns whether the owner's status may have to change for it."""
        known = self._pods.get(uid)
        news = known is None or known.stale or _is_news(known.reported, heartbeat)
        reported = heartbeat if known is None or news else known.reported
        self._pods[uid] = _Pod(owner, heartbeat, reported, now, stale_after)
        return news

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._pods.pop(uid, None)
        self._allowances.pop(uid, None)

    def beats(self, uids: Iterable[str], now: float) -> Mapping[str, tuple[wire.Heartbeat, float]]:
        """The heartbeats of some pods, each with its age in seconds."""
        found = {uid: self._pods[uid] for uid in uids if uid in self._pods}
        return {
            uid: (
                pod.heartbeat,
                now - pod.received if pod.stale else min(now - pod.received, pod.stale_after),
            )
            for uid, pod in found.items()
        }

    def sweep(self, now: float) -> Sweep:
        """Mark the pods that were silent too long, unless most of them are.

        When more than half of all pods fall silent in one sweep, the way to the operator
        is broken rather than the pods: nothing is marked until most are heard again.
        """
        late = [
            pod
            for pod in self._pods.values()
            if not pod.stale and now - pod.received > pod.stale_after
        ]
        self._frozen = len(self._pods) > 1 and 2 * len(late) > len(self._pods)
        if self._frozen:
            return Sweep(frozenset(), frozen=True)
        for pod in late:
            pod.stale = True
        return Sweep(frozenset(pod.owner for pod in late), frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether the last sweep found most pods silent at once."""
        return self._frozen

    @property
    def stale(self) -> int:
        """Pods marked as silent."""
        return sum(pod.stale for pod in self._pods.values())

    def oldest(self, now: float) -> float:
        """Age in seconds of the oldest last heartbeat; 0 without any."""
        return max((now - pod.received for pod in self._pods.values()), default=0.0)

    def states(self) -> Mapping[wire.LoadState, int]:
        """Pods by the state that they last reported."""
        counts = dict.fromkeys(wire.LoadState, 0)
        for pod in self._pods.values():
            counts[pod.heartbeat.state] += 1
        return counts


def _is_news(old: wire.Heartbeat, new: wire.Heartbeat) -> bool:
    """Whether `new` differs from `old` in what a status shows."""

    def shown(beat: wire.Heartbeat) -> tuple[object, ...]:
        message = beat.message if beat.state is wire.LoadState.FAILED else ""
        measured = beat.progress is not None
        words = (beat.state, beat.reason, message, measured)
        return (*words, beat.revision, beat.dtype, beat.max_model_len, beat.scoring, beat.adapters)

    if shown(old) != shown(new):
        return True
    return abs((new.progress or 0) - (old.progress or 0)) >= PROGRESS_STEP
