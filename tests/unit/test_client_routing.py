"""Which worker gets the next call, and when the next attempt comes."""

import random
from collections import Counter
from typing import Any

import pytest

from modelworker import CallTimeout, InvalidRequest, Overloaded, Unavailable
from modelworker._errors import ModelWorkerError
from modelworker._retry import LONGEST_PAUSE_SECONDS, pause_before_retry
from modelworker._routing import COOL_DOWN_SECONDS, LONGEST_COOL_DOWN_SECONDS, Balancer, choose


@pytest.mark.parametrize(
    ("outstanding", "cooling", "luck", "expected"),
    [
        pytest.param({"a": 2, "b": 1, "c": 3}, (), 0, "b", id="fewest-outstanding"),
        pytest.param({"a": 1}, (), 0, "b", id="none-counts-as-zero"),
        pytest.param({}, (), 0.0, "a", id="tie-least-luck"),
        pytest.param({}, (), 0.5, "b", id="tie-middle"),
        pytest.param({}, (), 0.999, "c", id="tie-most-luck"),
        pytest.param({"b": 1}, (), 0.5, "c", id="tie-among-equals-only"),
        pytest.param({"a": 5, "b": 5}, ("c",), 0, "a", id="cooling-avoided"),
        pytest.param({"b": 1, "c": 1}, ("a", "b", "c"), 0, "a", id="all-cooling-anyway"),
    ],
)
def test_choose(
    outstanding: dict[str, int], cooling: tuple[str], luck: float, expected: str
) -> None:
    assert choose(["a", "b", "c"], outstanding, cooling=cooling, luck=luck) == expected


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="no workers"):
        choose([], {})


def test_idle_workers_share_the_calls() -> None:
    balancer = Balancer(lambda: 0.0, random.Random(1).random)
    shares = Counter(balancer.pick(["a", "b", "c"]) for _ in range(300))
    assert min(shares.values()) > 60


def test_counts_of_calls_under_way() -> None:
    balancer = Balancer(lambda: 0.0, random.Random(1).random)
    for _ in range(9):
        balancer.begin(balancer.pick(["a", "b", "c"]))
    assert balancer.outstanding == {"a": 3, "b": 3, "c": 3}
    balancer.end("b")
    assert balancer.pick(["a", "b", "c"]) == "b"
    for _ in range(2):
        balancer.end("b")
    assert balancer.outstanding == {"a": 3, "c": 3}


def test_an_unreachable_worker_cools_down_longer_each_time() -> None:
    now = 0.0
    balancer = Balancer(lambda: now, random.Random(1).random)
    balancer.unreachable("a")
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"b"}
    assert balancer.pick(["a"]) == "a"
    now = COOL_DOWN_SECONDS + 0.1
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"a", "b"}
    balancer.unreachable("a")
    now += COOL_DOWN_SECONDS + 0.1
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"b"}
    balancer.reached("a")
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"a", "b"}


def test_old_failures_are_forgotten() -> None:
    now = 0.0
    balancer = Balancer(lambda: now, random.Random(1).random)
    balancer.unreachable("gone")
    now = 10 * LONGEST_COOL_DOWN_SECONDS
    balancer.unreachable("a")
    assert set(balancer._failures) == {"a"}


def overloaded(seconds: float) -> Overloaded:
    error = Overloaded("full")
    error.retry_after = seconds
    return error


def at(
    round_: int = 0, *, others_left: bool = False, remaining: float = 60.0, luck: float = 0.5
) -> dict[str, Any]:
    return {
        "round_": round_,
        "others_left": others_left,
        "remaining": remaining,
        "luck": luck,
    }


@pytest.mark.parametrize(
    ("error", "where", "expected"),
    [
        pytest.param(InvalidRequest("x"), at(others_left=True), None, id="final"),
        pytest.param(CallTimeout("x"), at(others_left=True), None, id="timeout-final"),
        pytest.param(Unavailable("x"), at(others_left=True), 0.0, id="another-worker-at-once"),
        pytest.param(overloaded(3), at(others_left=True), 0.0, id="another-despite-retry-after"),
        pytest.param(Unavailable("x"), at(0), 0.05, id="first-round"),
        pytest.param(Unavailable("x"), at(3), 0.4, id="fourth-round"),
        pytest.param(Unavailable("x"), at(99, luck=1.0), LONGEST_PAUSE_SECONDS, id="bounded"),
        pytest.param(Unavailable("x"), at(99, luck=0.0), 0.0, id="full-jitter"),
        pytest.param(overloaded(3), at(luck=0.0), 3.0, id="retry-after-is-the-least"),
        pytest.param(overloaded(3), at(), 4.5, id="retry-after-spreads"),
        pytest.param(overloaded(3), at(remaining=2.0), None, id="no-wait-beyond-the-deadline"),
        pytest.param(Unavailable("x"), at(remaining=0.0), None, id="deadline-passed"),
    ],
)
def test_pause_before_retry(
    error: ModelWorkerError, where: dict[str, Any], expected: float | None
) -> None:
    pause = pause_before_retry(error, **where)
    assert pause == (expected if expected is None else pytest.approx(expected))
