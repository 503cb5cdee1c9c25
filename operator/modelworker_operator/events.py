"""Kubernetes Events: built from transitions, each said once in a while, sent one by one."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from modelworker_api import kube
from modelworker_operator.errors import OperatorError
from modelworker_operator.transitions import Transition

_QUIET_SECONDS: Final = 300.0
_BURST: Final = 25
_REMEMBERED: Final = 4096
_MOST_WAITING: Final = 1000
_LONGEST_NOTE: Final = 1024
"""What `events.k8s.io/v1` takes."""

_log = logging.getLogger(__name__)


class EventLimit:
    """Which Events to send: the same words about one object once in five minutes.

    Of different words about one object there are at most 25 in five minutes.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: OrderedDict[tuple[str, kube.Reason, str], float] = OrderedDict()
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admits(self, uid: str, transition: Transition) -> bool:
        """True if the Event is to be sent; it then counts as sent."""
        now = self._monotonic()
        words = (uid, transition.reason, transition.message)
        if now - self._said.get(words, float("-inf")) < _QUIET_SECONDS:
            return False
        since, count = self._counts.pop(uid, (now, 0))
        if now - since >= _QUIET_SECONDS:
            since, count = now, 0
        self._counts[uid] = (since, count + 1)
        if count >= _BURST:
            return False
        self._said.pop(words, None)
        self._said[words] = now
        for memory in (self._said, self._counts):
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)
        return True


class Events:
    """Sends Events beside the passes, which do not wait for it: an Event is a courtesy."""

    def __init__(
        self,
        create: Callable[[str, Mapping[str, Any]], Awaitable[None]],
        limit: EventLimit,
        *,
        instance: str,
        now: Callable[[], datetime],
    ) -> None:
        self._create = create
        self._limit = limit
        self._instance = instance
        self._now = now
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_WAITING)

    @property
    def waiting(self) -> int:
        """Events that are still to be sent."""
        return self._waiting.qsize()

    def __call__(self, regarding: Mapping[str, Any], found: Sequence[Transition]) -> None:
        """Have the Events sent about the object that `regarding` refers to."""
        for transition in found:
            if self._waiting.full():
                _log.warning("no Event %s: too many wait to be sent", transition.reason)
            elif self._limit.admits(regarding["uid"], transition):
                event = event_for(regarding, transition, instance=self._instance, now=self._now())
                self._waiting.put_nowait(event)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            event = await self._waiting.get()
            try:
                await self._create(event["metadata"]["namespace"], event)
            except OperatorError as error:
                _log.warning("no Event %s: %s", event["reason"], error)


def event_for(
    regarding: Mapping[str, Any], transition: Transition, *, instance: str, now: datetime
) -> dict[str, Any]:
    """The body of an `events.k8s.io/v1` Event about the object that `regarding` refers to."""
    note = transition.message
    if len(note.encode()) > _LONGEST_NOTE:
        cut = note.encode()[: _LONGEST_NOTE - 60].decode(errors="ignore")
        note = f"{cut} ... (the whole text is in the object's conditions)"
    return {
        "metadata": {"generateName": regarding["name"] + "-", "namespace": regarding["namespace"]},
        "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": kube.FIELD_MANAGER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "reason": transition.reason.value,
        "type": transition.type,
        "regarding": dict(regarding),
        "note": note,
    }
