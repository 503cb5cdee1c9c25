"""When this process may write, by a given clock."""

import math

import pytest

from modelworker_operator.election import Leadership


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("age", "remaining"),
    [(0, 15), (9.5, 5.5), (10, 0), (3600, 0)],
    ids=["fresh", "before-the-deadline", "at-the-deadline", "after-a-long-stop"],
)
def test_gate_shuts_with_the_age_of_the_lease(age: float, remaining: float) -> None:
    clock = Clock()
    leadership = Leadership(clock)
    assert leadership.remaining() == 0
    leadership.renewed(clock.now)
    clock.now += age
    assert leadership.remaining() == remaining


def test_gate_never_opens_after_the_end() -> None:
    clock = Clock()
    for leadership in (Leadership(clock), Leadership.unlimited(clock)):
        leadership.renewed(clock.now)
        assert leadership.remaining() in (15, math.inf)
        leadership.end()
        leadership.renewed(clock.now)
        assert leadership.remaining() == 0
