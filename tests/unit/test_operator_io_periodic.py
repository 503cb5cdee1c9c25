"""Work that is repeated: when it is done again, and what the log says of its failures."""

import asyncio
import logging

import pytest

from modelworker_operator.errors import ApplyForbidden, ClusterUnavailable, OperatorError
from modelworker_operator.periodic import repeat

AWAY, FORBIDDEN = ClusterUnavailable("away"), ApplyForbidden("cannot patch endpointslices")


def run(*results: OperatorError | None) -> list[float]:
    """The waits between the results of some rounds of the work, which ends in the last one."""
    waits: list[float] = []
    left = list(results)

    async def work() -> None:
        result = left.pop(0)
        if result:
            raise result

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if not left:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(repeat("doing it", work, seconds=20.0, sleep=sleep))
    return waits


def test_it_waits_for_its_time_after_a_success_and_less_after_a_failure() -> None:
    waits = run(None, *[AWAY] * 20, None)
    assert all(18 <= wait <= 20 for wait in (waits[0], waits[-1]))
    assert waits[1] <= 0.25
    assert max(waits) <= 20


def test_back_off_starts_over_after_a_success() -> None:
    assert run(*[AWAY] * 6, None, AWAY)[-1] <= 0.25


def test_each_kind_of_failure_in_a_row_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modelworker_operator.periodic"):
        run(None, AWAY, AWAY, FORBIDDEN, FORBIDDEN, None, None, AWAY)
    assert [record.getMessage() for record in caplog.records] == [
        "doing it: away",
        "doing it: cannot patch endpointslices",
        "doing it: done",
        "doing it: away",
    ]


def test_what_is_no_failure_of_the_cluster_is_not_hidden() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(repeat("doing it", work, seconds=1.0))
