"""`kubectl modelworker score`: what a reward model says of answers."""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from modelworker import Score
from modelworker.cli import _score_lines as lines
from modelworker.cli._cluster import Target
from modelworker.cli._failures import Code, Failure
from modelworker.cli._names import of_kind
from modelworker.cli._output import emit, plain
from modelworker.cli._world import World, caller
from modelworker_api import kube


def score(
    world: World,
    target: Target,
    name: str,
    question: str | None,
    answers: Sequence[str],
    *,
    separator: str | None,
    aggregation: str | None,
    access: str | None,
    output: str | None,
) -> Code:
    """Score the answers to a question, or what comes as JSON lines; 1 if one failed.

    Raises:
        Failure: if there is nothing to score, or nothing could be scored at all.
    """
    model = of_kind(name, kube.REWARDMODEL, "`kubectl modelworker chat` calls language models")
    if question is not None and not answers:
        raise Failure("the question has no answer; give one or more behind it", Code.USAGE)
    if question is None and sys.stdin.isatty():
        inputs = lines.read(())
    else:
        inputs = lines.read(sys.stdin) if question is None else lines.given(question, answers)
    with caller(world.rm, model, target, access) as rm:
        outcomes: list[Any] = rm.score(
            [one.value for one in inputs],
            separator=separator,
            aggregation=aggregation,
            on_error="return",
        )
    if output is not None:
        emit({"items": [lines.data(one) for one in outcomes]}, output)
    else:
        found = [
            row
            for index, (one, outcome) in enumerate(zip(inputs, outcomes, strict=True))
            for row in lines.rows(index, one, outcome)
        ]
        typer.echo(plain(["ANSWER", "WHAT", "SCORE", "TEXT"], found))
    return Code.OK if all(isinstance(one, Score) for one in outcomes) else Code.FAILED
