"""`wait`: what is reached, what never will be, and what is said meanwhile."""

from typing import Any

import pytest

from modelworker.cli._app import run
from modelworker.cli._durations import seconds_of
from modelworker.cli._facts import facts_of
from modelworker.cli._failures import Failure
from modelworker.cli._wait import Goal, goal_of, hopeless, reached
from modelworker_api import kube
from tests.cli_support import OBJECTS, Clock, absent, body, condition, world

MW = OBJECTS[kube.MODELWORKER]
REJECTED = body(
    "policy",
    reason="InvalidSpec",
    message="spec.model is wrong",
    others=[condition("Accepted", "False", "InvalidSpec", "spec.model is wrong")],
)
LOADING = body(
    "policy",
    reason="Loading",
    message="reading",
    workers=[{"pod": "p-1", "state": "Loading", "progress": 40}],
)
READY = body("policy")


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        pytest.param("condition=Ready", Goal("Ready"), id="condition"),
        pytest.param("condition=available", Goal("Available"), id="any-case"),
        pytest.param("condition=Ready=false", Goal("Ready", "False"), id="status"),
        pytest.param("delete", Goal(), id="delete"),
    ],
)
def test_goal(text: str, goal: Goal) -> None:
    assert goal_of(text) == goal


@pytest.mark.parametrize("text", ["", "Ready", "condition=", "condition=Red", "jsonpath={.x}"])
def test_no_goal(text: str) -> None:
    with pytest.raises(Failure, match="the types are Accepted, Available"):
        goal_of(text)


@pytest.mark.parametrize(
    ("one", "goal", "is_reached"),
    [
        pytest.param(READY, Goal("Ready"), True, id="ready"),
        pytest.param(LOADING, Goal("Ready"), False, id="loading"),
        pytest.param(LOADING, Goal("Ready", "False"), True, id="wanted-false"),
        pytest.param(body("p", observed=0), Goal("Ready"), False, id="of-an-older-spec"),
        pytest.param(body("p", reason=None), Goal("Ready"), False, id="no-status"),
        pytest.param(READY, Goal("Available"), False, id="no-such-condition"),
        pytest.param(READY, Goal(), False, id="there"),
    ],
)
def test_reached(one: dict[str, Any], goal: Goal, is_reached: bool) -> None:
    assert reached(goal, facts_of(one)) is is_reached


@pytest.mark.parametrize(
    ("one", "goal", "never"),
    [
        pytest.param(REJECTED, Goal("Ready"), True, id="not-accepted"),
        pytest.param(REJECTED, Goal("Ready", "False"), False, id="wanted-false"),
        pytest.param(REJECTED, Goal(), False, id="to-be-deleted"),
        pytest.param(
            {**REJECTED, "metadata": {**REJECTED["metadata"], "generation": 2}},
            Goal("Ready"),
            False,
            id="a-newer-spec-may-be-accepted",
        ),
        pytest.param(LOADING, Goal("Ready"), False, id="loading"),
    ],
)
def test_hopeless(one: dict[str, Any], goal: Goal, never: bool) -> None:
    assert (hopeless(goal, facts_of(one)) is not None) is never


def at(*states: Any) -> tuple[dict[str, Any], Clock]:
    """A cluster whose object is in the next state with each second."""
    clock = Clock()
    return {
        MW: lambda: [one for one in [states[min(int(clock.now), len(states) - 1)]] if one],
        f"{MW}/policy": lambda: states[min(int(clock.now), len(states) - 1)] or absent(),
        OBJECTS[kube.REWARDMODEL]: [],
    }, clock


@pytest.mark.parametrize(
    ("states", "flags", "code", "out", "err"),
    [
        pytest.param(
            [LOADING, LOADING, READY],
            [],
            0,
            "mw/policy condition met\n",
            "mw/policy 0/1 Loading 40%: reading\n",
            id="ready-in-time-with-progress-said-once",
        ),
        pytest.param(
            [LOADING],
            ["--timeout=2s"],
            1,
            "",
            "error: not Ready within 2s: mw/policy 0/1 Loading 40%: reading; "
            "next: kubectl modelworker status mw/policy -n ns -w",
            id="not-in-time",
        ),
        pytest.param(
            [LOADING, REJECTED],
            [],
            1,
            "",
            "error: mw/policy can never be Ready: InvalidSpec: spec.model is wrong; "
            "next: kubectl edit mw/policy -n ns",
            id="never",
        ),
        pytest.param(
            [LOADING, None],
            [],
            1,
            "",
            "error: mw/policy is gone; it can never be Ready",
            id="deleted-meanwhile",
        ),
        pytest.param(
            [READY, READY, None], ["--for=delete"], 0, "mw/policy deleted\n", "", id="deleted"
        ),
        pytest.param([None], ["--for=delete"], 0, "mw/policy deleted\n", "", id="gone-already"),
        pytest.param([None], [], 1, "", "error: no ModelWorker 'policy'", id="none"),
        pytest.param([READY], ["--timeout=soon"], 2, "", "'soon' is no duration", id="duration"),
    ],
)
def test_wait(
    capsys: pytest.CaptureFixture[str],
    states: list[Any],
    flags: list[str],
    code: int,
    out: str,
    err: str,
) -> None:
    answers, clock = at(*states)
    assert run(["wait", "mw/policy", *flags], world(answers, clock=clock)) == code
    said = capsys.readouterr()
    assert said.out == out
    assert err in said.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("90s", 90, id="seconds"),
        pytest.param("1h30m", 5400, id="parts"),
        pytest.param("2d", 172800, id="days"),
        pytest.param("0s", 0, id="none"),
    ],
)
def test_duration(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m5", "5 m", "-5s", "1.5h"])
def test_no_duration(text: str) -> None:
    with pytest.raises(Failure, match="is no duration"):
        seconds_of(text)
