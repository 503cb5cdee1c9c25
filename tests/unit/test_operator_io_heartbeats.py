"""The registry of heartbeats, and when this process may write: both pure, with a given clock."""

import pytest

from modelworker_api import kube, wire
from modelworker_operator.heartbeats import Registry
from modelworker_operator.store import Key

SCORING = {"family": "MathShepherd", "recipe_hash": "a", "compared": True}
LOADING = {"name": "math", "state": "Loading", "location": "/models/math"}
OWNER = Key(kube.MODELWORKER, "ns", "one")


def beat(**fields: object) -> wire.Heartbeat:
    return wire.Heartbeat.model_validate({"state": "Loading", **fields})


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        pytest.param({}, {}, False, id="same"),
        pytest.param({}, {"state": "Ready"}, True, id="state"),
        pytest.param({}, {"reason": "LoadFailed"}, True, id="reason"),
        pytest.param({}, {"revision": "abc"}, True, id="revision"),
        pytest.param({"progress": 10}, {"progress": 14}, False, id="small-progress"),
        pytest.param({"progress": 10}, {"progress": 15}, True, id="progress"),
        pytest.param({}, {"progress": 0}, True, id="progress-known"),
        pytest.param({}, {"running": 9, "waiting": 3}, False, id="load"),
        pytest.param({"message": "a"}, {"message": "b"}, False, id="message"),
        pytest.param({}, {"scoring": SCORING}, True, id="scoring"),
        pytest.param({"scoring": SCORING}, {"scoring": SCORING}, False, id="same-scoring"),
        pytest.param(
            {"scoring": SCORING},
            {"scoring": {**SCORING, "recipe_hash": "b"}},
            True,
            id="another-recipe",
        ),
        pytest.param({}, {"adapters": [LOADING]}, True, id="adapter"),
        pytest.param({"adapters": [LOADING]}, {"adapters": [LOADING]}, False, id="same-adapter"),
        pytest.param(
            {"adapters": [LOADING]},
            {"adapters": [{**LOADING, "state": "Loaded"}]},
            True,
            id="adapter-state",
        ),
        pytest.param(
            {"adapters": [LOADING]},
            {"adapters": [{**LOADING, "location": "/models/other"}]},
            True,
            id="adapter-place",
        ),
        pytest.param({"adapters": [LOADING]}, {}, True, id="adapter-gone"),
        pytest.param(
            {"state": "Failed", "message": "a"},
            {"state": "Failed", "message": "b"},
            True,
            id="message-of-a-failure",
        ),
    ],
)
def test_what_is_news(before: dict[str, object], after: dict[str, object], news: bool) -> None:
    registry = Registry()
    assert registry.record("u", OWNER, beat(**before), now=0, stale_after=45)
    assert registry.record("u", OWNER, beat(**after), now=1, stale_after=45) is news


def test_small_progress_adds_up() -> None:
    registry = Registry()
    news = [
        registry.record("u", OWNER, beat(progress=progress), now=0, stale_after=45)
        for progress in range(21)
    ]
    assert [at for at, is_news in enumerate(news) if is_news] == [0, 5, 10, 15, 20]


def test_silence_counts_once_swept_and_the_next_heartbeat_ends_it() -> None:
    registry = Registry()
    for uid in ("a", "b", "c"):
        registry.record(uid, OWNER, beat(), now=0, stale_after=45)
    registry.record("b", OWNER, beat(), now=40, stale_after=45)
    registry.record("c", OWNER, beat(), now=40, stale_after=45)
    assert registry.beats(["a", "x"], 60).keys() == {"a"}
    assert registry.beats(["a"], 60)["a"][1] == 45  # Not a fact yet.
    result = registry.sweep(60)
    assert result.changed == {OWNER}
    assert (result.frozen, registry.stale) == (False, 1)
    assert registry.beats(["a"], 60)["a"][1] == 60
    assert registry.sweep(65).changed == frozenset()
    assert registry.record("a", OWNER, beat(), now=66, stale_after=45)
    assert registry.stale == 0


@pytest.mark.parametrize(
    ("silent", "known", "frozen"),
    [(1, 1, False), (1, 2, False), (2, 2, True), (2, 4, False), (3, 4, True)],
)
def test_when_most_fall_silent_at_once_none_counts(silent: int, known: int, frozen: bool) -> None:
    registry = Registry()
    for number in range(known):
        heard = 0 if number < silent else 50
        registry.record(str(number), OWNER, beat(), now=heard, stale_after=45)
    result = registry.sweep(60)
    assert (result.frozen, registry.frozen) == (frozen, frozen)
    assert result.changed == (frozenset() if frozen else {OWNER})
    assert registry.stale == (0 if frozen else silent)


def test_forgotten_pods_are_not_known() -> None:
    registry = Registry()
    registry.record("u", OWNER, beat(), now=0, stale_after=45)
    assert registry.states()[wire.LoadState.LOADING] == 1
    assert registry.oldest(7) == 7
    registry.forget("u")
    assert (len(registry), registry.oldest(7), registry.beats(["u"], 7)) == (0, 0, {})


def test_allowance_is_a_burst_and_then_one_a_second() -> None:
    registry = Registry()
    assert [registry.admits("u", 0) for _ in range(11)] == [True] * 10 + [False]
    assert registry.admits("other", 0)
    assert [registry.admits("u", now) for now in (0.5, 1.1, 1.2, 2.2)] == [False, True, False, True]
