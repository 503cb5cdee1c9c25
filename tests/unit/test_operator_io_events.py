"""Which Events are sent, and that they fit the API."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from modelworker_api.kube import Reason
from modelworker_operator.errors import ApplyForbidden
from modelworker_operator.events import EventLimit, Events, event_for
from modelworker_operator.transitions import Transition

REGARDING = {"apiVersion": "v", "kind": "K", "name": "one", "namespace": "ns", "uid": "u"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def transition(message: str = "m", reason: Reason = Reason.LOADING) -> Transition:
    return Transition("Normal", reason, message)


def test_the_same_event_is_said_once_in_five_minutes() -> None:
    clock = Clock()
    limit = EventLimit(clock)
    assert limit.admits("u", transition())
    assert not limit.admits("u", transition())
    assert limit.admits("u", transition("other"))
    assert limit.admits("v", transition())
    clock.now += 301
    assert limit.admits("u", transition())


def test_events_about_one_object_are_bounded() -> None:
    clock = Clock()
    limit = EventLimit(clock)
    admitted = [limit.admits("u", transition(str(number))) for number in range(100)]
    assert sum(admitted) == 25
    clock.now += 301
    assert limit.admits("u", transition("later"))


def test_event_fits_the_api() -> None:
    event = event_for(
        REGARDING,
        transition("ü" * 2000),
        instance="i" * 300,
        now=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    )
    assert event["eventTime"] == "2026-01-02T03:04:05.000006Z"
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("(the whole text is in the object's conditions)")
    assert len(event["reportingInstance"]) == 128
    assert event["regarding"] == REGARDING


def test_events_are_sent_beside_the_pass_and_a_refused_one_does_not_hold_up_the_next() -> None:
    async def scenario() -> list[str]:
        sent: list[str] = []
        done = asyncio.Event()

        async def create(namespace: str, event: Mapping[str, Any]) -> None:
            if event["note"] == "refused":
                raise ApplyForbidden("no right")
            sent.append(f"{namespace}: {event['note']}")
            done.set()

        events = Events(
            create,
            EventLimit(lambda: 0.0),
            instance="test",
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        events(REGARDING, [transition("refused"), transition("said"), transition("said")])
        assert sent == []
        task = asyncio.create_task(events.run())
        await asyncio.wait_for(done.wait(), 5)
        task.cancel()
        return sent

    assert asyncio.run(scenario()) == ["ns: said"]


def test_events_that_cannot_be_sent_do_not_pile_up() -> None:
    async def create(namespace: str, event: Mapping[str, Any]) -> None:
        raise AssertionError("nothing is sent here")

    events = Events(
        create,
        EventLimit(lambda: 0.0),
        instance="test",
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    for number in range(1200):
        events({**REGARDING, "uid": str(number)}, [transition()])
    assert events.waiting == 1000
