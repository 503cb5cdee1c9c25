"""`kubectl modelworker wait`: until objects are ready, or gone, or never will be."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer

from modelworker.cli import _gather
from modelworker.cli._cluster import Cluster, Target, objects_path
from modelworker.cli._durations import seconds_of
from modelworker.cli._facts import Facts, facts_of
from modelworker.cli._failures import Code, Failure, Refused
from modelworker.cli._names import kind_of
from modelworker.cli._world import World
from modelworker_api import kube

LOOK_SECONDS: Final = 1.0
_CONDITION: Final = re.compile(r"condition=([A-Za-z]+)(?:=(True|False|Unknown))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for: a condition with a status, or without a type that the object is gone."""

    condition: str | None = None
    status: str = "True"

    def __str__(self) -> str:
        if self.condition is None:
            return "deleted"
        return self.condition if self.status == "True" else f"{self.condition}={self.status}"


def goal_of(text: str) -> Goal:
    """What `--for` says.

    Raises:
        Failure: if it is nothing that can be waited for.
    """
    if text == "delete":
        return Goal()
    matched = _CONDITION.fullmatch(text)
    known = {one.value.lower(): one.value for one in kube.ConditionType}
    if not matched or matched[1].lower() not in known:
        raise Failure(
            f"--for={text} is nothing to wait for; it is condition=TYPE, condition=TYPE=STATUS or "
            f"delete, and the types are {', '.join(known.values())}",
            Code.USAGE,
        )
    return Goal(known[matched[1].lower()], (matched[2] or "True").capitalize())


def reached(goal: Goal, facts: Facts) -> bool:
    """Whether the object, which is there, is as it should be."""
    if goal.condition is None or not facts.observed:
        return False
    condition = facts.condition(goal.condition)
    return condition is not None and condition.status == goal.status


def hopeless(goal: Goal, facts: Facts) -> str | None:
    """Why it can never be reached; None while it can."""
    rejected = facts.rejected
    if rejected is None or reached(goal, facts) or goal.condition is None or goal.status != "True":
        return None
    return (
        f"{facts.ref} can never be {goal}: {rejected.reason}: {rejected.message}; "
        f"next: {facts.advice}"
    )


def progress(facts: Facts) -> str:
    """What the wait is for, in one line."""
    percents = [one.progress for one in facts.workers if one.progress is not None and not one.ready]
    percent = f" {min(percents)}%" if percents else ""
    return (
        f"{facts.ref} {facts.ready_replicas}/{facts.desired} {facts.reason}{percent}: "
        f"{facts.message}"
    )


def wait(world: World, target: Target, names: Sequence[str], goal: str, timeout: str) -> Code:
    """Wait until every object is as `goal` says, with progress on stderr.

    Raises:
        Failure: when the time is over, or an object can never become so.
    """
    what, seconds = goal_of(goal), seconds_of(timeout)
    cluster = world.connect(target)
    until = world.clock() + seconds
    left = _named(cluster, target, names, what)
    show = _Progress(world)
    while True:
        waiting: list[tuple[str, str, Facts]] = []
        for namespace, name, kind in left:
            facts = _now(cluster, kind, namespace, name)
            if facts is None:
                if what.condition is not None:
                    raise Failure(f"{kind.short}/{name} is gone; it can never be {what}")
                show.done(f"{kind.short}/{name} deleted")
            elif reached(what, facts):
                show.done(f"{facts.ref} condition met")
            elif (why := hopeless(what, facts)) is not None:
                raise Failure(why)
            else:
                waiting.append((namespace, name, facts))
        if not waiting:
            return Code.OK
        left = [(namespace, name, facts.kind) for namespace, name, facts in waiting]
        show([facts for *_, facts in waiting])
        if world.clock() >= until:
            facts = waiting[0][2]
            step = f"; next: {facts.advice}" if facts.advice else ""
            raise Failure(
                f"not {what} within {timeout}: {'; '.join(progress(f) for *_, f in waiting)}{step}"
            )
        world.sleep(LOOK_SECONDS)


Wanted = tuple[str, str, kube.Kind]


def _named(cluster: Cluster, target: Target, names: Sequence[str], goal: Goal) -> list[Wanted]:
    """The objects to wait for; for a deletion, what is not there is gone already."""
    if not names:
        raise Failure("name the objects to wait for", Code.USAGE)
    found: list[Wanted] = []
    for name in names:
        try:
            bodies = _gather.bodies(cluster, target, [name])
        except Failure as error:
            if goal.condition is None and error.code is Code.FAILED:
                typer.echo(f"{name} deleted")
                continue
            raise
        found += [
            (body["metadata"]["namespace"], body["metadata"]["name"], kind_of(body))
            for body in bodies
        ]
    return found


def _now(cluster: Cluster, kind: kube.Kind, namespace: str, name: str) -> Facts | None:
    try:
        body: Mapping[str, Any] = cluster.get(objects_path(kind, namespace, name))
    except Refused as error:
        if error.absent:
            return None
        raise
    return facts_of({"kind": kind.kind, **body})


class _Progress:
    """Shows what is waited for: in place on a terminal, else a line for each change."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._said = ""
        self._in_place = sys.stderr.isatty()

    def __call__(self, facts: Sequence[Facts]) -> None:
        text = "; ".join(progress(one) for one in facts)
        if text == self._said:
            return
        self._said = text
        if self._in_place:
            width = self._world.console.width - 1
            typer.echo(f"\r\x1b[K{text[:width]}", err=True, nl=False)
        else:
            typer.echo(text, err=True)

    def done(self, text: str) -> None:
        """Say that one object is as it should be."""
        if self._in_place and self._said:
            typer.echo("\r\x1b[K", err=True, nl=False)
        typer.echo(text)
