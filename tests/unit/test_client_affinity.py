"""Which worker a key belongs to."""

import math
import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker import InvalidRequest
from modelworker._affinity import (
    LEAST_CAPACITY,
    PREFIX_CHARACTERS,
    PREFIX_TOKENS,
    SPREAD,
    capacity,
    key_of,
    place,
    preferred,
)

WORKERS = [f"http://10.0.0.{i}:8000" for i in range(8)]
KEYS = [f"session {i}" for i in range(2000)]

NAMES = st.sets(st.sampled_from(WORKERS), min_size=1)
KEY = st.text(min_size=1, max_size=20)


def user(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


LONG = "x" * PREFIX_CHARACTERS
IDS = list(range(PREFIX_TOKENS))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("s", None, "a"), ("s", "prefix", "b"), id="a-session-decides"),
        pytest.param((None, None, "a"), (None, None, "b"), id="none-without-a-mode"),
        pytest.param((None, "prefix", LONG + "a"), (None, "prefix", LONG + "b"), id="text-begins"),
        pytest.param((None, "prefix", [*IDS, 1]), (None, "prefix", [*IDS, 2]), id="ids-begin"),
        pytest.param((None, "prefix", (1, 2)), (None, "prefix", [1, 2]), id="tuple-or-list"),
        pytest.param(
            (None, "prefix", [*user(LONG), {"role": "assistant", "content": "a"}]),
            (None, "prefix", user(LONG)),
            id="conversation-begins",
        ),
    ],
)
def test_calls_of_one_key(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert key_of(*one) == key_of(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("s", None, "a"), ("t", None, "a"), id="sessions"),
        pytest.param(("a", None, "a"), (None, "prefix", "a"), id="session-or-prefix"),
        pytest.param((None, "prefix", "a"), (None, "prefix", "b"), id="texts"),
        pytest.param((None, "prefix", [1, 2]), (None, "prefix", [12]), id="ids"),
        pytest.param((None, "prefix", user("a")), (None, "prefix", user("b")), id="messages"),
        pytest.param(
            (None, "prefix", user("a")),
            (None, "prefix", [{"role": "system", "content": "a"}]),
            id="roles",
        ),
        pytest.param(
            (None, "prefix", user([{"type": "text", "text": "a"}])),
            (None, "prefix", user([{"type": "text", "text": "b"}])),
            id="parts",
        ),
    ],
)
def test_calls_of_different_keys(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert key_of(*one) is not None
    assert key_of(*one) != key_of(*other)


@pytest.mark.parametrize("session", ["", 7, ["a"], b"a"])
def test_a_session_that_is_no_name(session: Any) -> None:
    with pytest.raises(InvalidRequest, match="session must be a string that is not empty"):
        key_of(session, None, "x")


@given(KEY, NAMES, st.randoms())
def test_the_order_is_one_of_the_set_alone(key: str, workers: set[str], luck: Any) -> None:
    shuffled = sorted(workers)
    luck.shuffle(shuffled)
    order = preferred(key, shuffled)
    assert sorted(order) == sorted(workers)
    assert order == preferred(key, workers)


@given(KEY, NAMES, st.sampled_from(WORKERS))
def test_a_worker_that_leaves_moves_nobody_elses_keys(
    key: str, workers: set[str], leaves: str
) -> None:
    before = preferred(key, workers | {leaves})
    after = preferred(key, workers - {leaves})
    assert after == tuple(worker for worker in before if worker != leaves)


def test_a_worker_that_joins_takes_its_share_from_all() -> None:
    before = {key: preferred(key, WORKERS[:7])[0] for key in KEYS}
    after = {key: preferred(key, WORKERS)[0] for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {WORKERS[7]}
    assert {before[key] for key in moved} == set(WORKERS[:7])
    assert len(KEYS) / 8 * 0.8 < len(moved) < len(KEYS) / 8 * 1.2


def test_keys_spread_evenly() -> None:
    shares = Counter(preferred(key, WORKERS)[0] for key in KEYS)
    # Four standard deviations of a binomial share.
    deviation = math.sqrt(len(KEYS) * (1 / 8) * (7 / 8))
    assert all(abs(shares[worker] - len(KEYS) / 8) < 4 * deviation for worker in WORKERS)


def test_processes_agree() -> None:
    code = (
        "from modelworker._affinity import key_of, preferred\n"
        f"workers = set({WORKERS!r})\n"
        "for i in range(50):\n"
        "    print(preferred(key_of(f'tree-{i}\\ud800\\u00e9', None, ''), workers)[0])\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(set(seen.pop().split())) > 4


@pytest.mark.parametrize(
    ("total", "workers", "expected"),
    [
        pytest.param(0, 2, LEAST_CAPACITY, id="few-stay-together"),
        pytest.param(31, 2, 20, id="a-quarter-above-the-mean"),
        pytest.param(32, 2, 21, id="rounded-up"),
        pytest.param(99, 1, 125, id="one-worker-takes-all"),
    ],
)
def test_capacity(total: int, workers: int, expected: int) -> None:
    assert capacity(total, workers) == expected


@pytest.mark.parametrize(
    ("loads", "full", "expected"),
    [
        pytest.param((0, 0, 0), (), 0, id="idle"),
        pytest.param((7, 0, 0), (), 0, id="below-the-least"),
        pytest.param((8, 0, 0), (), 1, id="at-the-least"),
        pytest.param((30, 30, 30), (), 0, id="all-alike"),
        pytest.param((60, 20, 20), (), 1, id="above-the-bound"),
        pytest.param((60, 60, 0), (), 2, id="the-first-two-above"),
        pytest.param((0, 0, 0), (0,), 1, id="cache-full"),
        pytest.param((0, 0, 0), (0, 1, 2), 0, id="all-full"),
    ],
)
def test_place(loads: tuple[int, ...], full: tuple[int, ...], expected: int) -> None:
    order = preferred("session s", WORKERS[:3])
    given_loads = dict(zip(order, loads, strict=True))
    chosen = place("session s", given_loads, {order[i] for i in full})
    assert order.index(chosen) == expected


@given(st.lists(st.sampled_from(KEYS[:6]), max_size=300), st.integers(1, 8))
def test_no_worker_is_far_above_the_mean(keys: list[str], count: int) -> None:
    loads = dict.fromkeys(WORKERS[:count], 0)
    for key in keys:
        worker = place(key, loads)
        loads[worker] += 1
        assert loads[worker] <= max(LEAST_CAPACITY, SPREAD * sum(loads.values()) / count + 1)


def test_few_calls_of_a_key_meet_one_worker() -> None:
    luck = random.Random(3)
    for key in luck.sample(KEYS, 20):
        loads = dict.fromkeys(WORKERS, 0)
        for _ in range(LEAST_CAPACITY):
            loads[place(key, loads)] += 1
        assert max(loads.values()) == LEAST_CAPACITY
