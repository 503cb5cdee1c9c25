"""Which worker gets the next call, and when the next attempt comes."""

import random
from collections import Counter
from typing import Any

import pytest

from modelworker import CallTimeout, InvalidRequest, Overloaded, Unavailable
from modelworker._affinity import LEAST_CAPACITY, preferred
from modelworker._errors import ModelWorkerError
from modelworker._retry import LONGEST_PAUSE_SECONDS, pause_before_retry
from modelworker._routing import (
    COOL_DOWN_SECONDS,
    LONGEST_COOL_DOWN_SECONDS,
    REPORT_SECONDS,
    Balancer,
    Load,
    Report,
    choose,
    load_of,
)


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


# --- what workers report -------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("3 2 0.41", Load(5, False), id="running-and-waiting"),
        pytest.param("3 0 -", Load(3, False), id="no-cache"),
        pytest.param("1 0 0.96", Load(1, True), id="cache-nearly-full"),
        pytest.param("1 0 0.95", Load(1, False), id="cache-not-yet-full"),
        *(
            pytest.param(nonsense, None, id=f"nonsense-{nonsense}")
            for nonsense in ("", "3", "3 0", "3 0 1 2", "a b c", "-3 0 -", "1 0 nan", "1 0 inf")
        ),
    ],
)
def test_load_of(header: str | None, expected: Load | None) -> None:
    assert load_of(header) == expected


def busy(**foreign: int) -> dict[str, Report]:
    return {worker: Report(requests, False, 0.0) for worker, requests in foreign.items()}


@pytest.mark.parametrize(
    ("outstanding", "reports", "luck", "expected"),
    [
        # Of three workers luck draws the pairs ab ac ba bc ca cb.
        pytest.param({}, busy(a=9), 0.0, "b", id="the-less-loaded-of-two"),
        pytest.param({}, busy(a=9), 0.99, "b", id="equals-last-draw"),
        pytest.param({}, busy(a=9), 0.55, "b", id="equals-first"),
        pytest.param({}, busy(a=9), 0.65, "c", id="equals-second"),
        pytest.param({"b": 12}, busy(a=9), 0.0, "a", id="own-calls-count"),
        pytest.param({"b": 1}, {}, 0.2, "a", id="nobody-else-exactly-the-fewest"),
        pytest.param({"a": 1, "b": 1}, {"c": Report(0, True, 0.0)}, 0.0, "a", id="full-comes-last"),
    ],
)
def test_choose_by_reports(
    outstanding: dict[str, int], reports: dict[str, Report], luck: float, expected: str
) -> None:
    assert choose(["a", "b", "c"], outstanding, reports=reports, luck=luck) == expected


def test_any_two_are_compared() -> None:
    luck = random.Random(5)
    reports = busy(a=1, b=2, c=3, d=4)
    shares = Counter(
        choose(["a", "b", "c", "d"], {}, reports=reports, luck=luck.random()) for _ in range(6000)
    )
    # Of the six pairs a wins three, b two, c one.
    assert shares["d"] == 0
    for worker, pairs in (("a", 3), ("b", 2), ("c", 1)):
        assert abs(shares[worker] - pairs * 1000) < 150


def balancer_at(now: list[float]) -> Balancer:
    return Balancer(lambda: now[0], random.Random(1).random)


def test_our_own_calls_are_taken_off_a_report() -> None:
    balancer = balancer_at([0.0])
    for _ in range(3):
        balancer.begin("a")
    balancer.report("a", "3 0 -")
    assert balancer._reports == {}
    balancer.report("a", "6 1 -")
    assert balancer._reports["a"].foreign == 4
    for _ in range(3):
        balancer.end("a")
    balancer.begin("b")
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"b"}
    for _ in range(4):
        balancer.begin("b")
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"a"}


@pytest.mark.parametrize(
    ("header", "left"),
    [
        pytest.param("0 0 -", {}, id="idle-now"),
        pytest.param("nonsense", {}, id="not-understood"),
        pytest.param(None, {"a"}, id="no-header-says-nothing"),
    ],
)
def test_a_later_report_counts(header: str | None, left: Any) -> None:
    balancer = balancer_at([0.0])
    balancer.report("a", "9 0 -")
    balancer.report("a", header)
    assert set(balancer._reports) == set(left)


def test_a_report_ages() -> None:
    now = [0.0]
    balancer = balancer_at(now)
    balancer.report("a", "9 0 -")
    now[0] = REPORT_SECONDS - 0.1
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"b"}
    now[0] = REPORT_SECONDS
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"a", "b"}


def test_a_worker_that_is_full_is_left_alone() -> None:
    now = [0.0]
    balancer = balancer_at(now)
    balancer.turned_away("a", 2.0)
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"b"}
    assert balancer.pick(["a"]) == "a"
    now[0] = 2.1
    assert {balancer.pick(["a", "b"]) for _ in range(20)} == {"a", "b"}


def test_a_key_keeps_its_worker_until_that_is_loaded_or_away() -> None:
    workers = ["a", "b", "c"]
    first, second, third = preferred("session s", workers)
    balancer = balancer_at([0.0])
    for _ in range(LEAST_CAPACITY):
        assert balancer.pick(workers, "session s") == first
        balancer.begin(first)
    assert balancer.pick(workers, "session s") == second
    balancer.end(first)
    assert balancer.pick(workers, "session s") == first
    balancer.report(first, "40 0 -")
    assert balancer.pick(workers, "session s") == second
    balancer.unreachable(second)
    assert balancer.pick(workers, "session s") == third


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
