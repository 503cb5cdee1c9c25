"""What `score` reads and shows: JSON lines -> inputs, scores -> rows. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelworker import ModelWorkerError, Score
from modelworker.cli._failures import Code, Failure, one_line
from modelworker.cli._output import compact

_SHAPES: Final = (
    '{"question": ..., "response": ...}, {"question": ..., "steps": [...]}, '
    '{"messages": [...]}, [question, response] or [question, [step, ...]]'
)
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Input:
    """One answer to score, as `RMCall.score` takes it, and as it is shown."""

    value: Any
    answer: str | Sequence[str]

    def step(self, index: int, start: int, end: int) -> str:
        """The text of a step: as it was given, else a range of the response."""
        if isinstance(self.answer, str):
            return self.answer[start:end]
        return self.answer[index] if index < len(self.answer) else ""


def given(question: str, answers: Iterable[str]) -> list[Input]:
    """The inputs of a question and its answers."""
    return [Input((question, answer), answer) for answer in answers]


def read(lines: Iterable[str]) -> list[Input]:
    """The inputs of JSON lines; empty ones are skipped.

    Raises:
        Failure: for a line that is no input, with its number.
    """
    found = [_input(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise Failure(
            f"there is nothing to score; give a question and answers, or lines like {_SHAPES} "
            "on stdin",
            Code.USAGE,
        )
    return found


def _input(number: int, line: str) -> Input:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Failure(f"line {number} is no JSON: {error}", Code.USAGE) from error
    match value:
        case {"question": str(question), "response": str(answer)}:
            return Input((question, answer), answer)
        case {"question": str(question), "steps": list(steps)} if _texts(steps):
            return Input((question, steps), tuple(steps))
        case [str(question), str(answer)]:
            return Input((question, answer), answer)
        case [str(question), list(steps)] if _texts(steps):
            return Input((question, steps), tuple(steps))
        case {"messages": [*_, {"content": str(answer)}]}:
            return Input(value["messages"], answer)
    raise Failure(f"line {number} must be like {_SHAPES}", Code.USAGE)


def _texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def rows(index: int, one: Input, outcome: Score | ModelWorkerError) -> list[list[str]]:
    """The rows of one answer: a score for each step, then the one of all; or the error."""
    number = str(index + 1)
    if not isinstance(outcome, Score):
        return [[number, "error", "", one_line(str(outcome))]]
    steps = [
        [
            number,
            f"step {place + 1}",
            f"{step.value:.6f}",
            _short(one.step(place, step.start_char, step.end_char)),
        ]
        for place, step in enumerate(outcome.steps)
    ]
    cut = " (the beginning was cut off)" if outcome.truncated else ""
    about = f"{outcome.recipe}, {outcome.token_count} tokens{cut}"
    return [*steps, [number, outcome.aggregation, f"{float(outcome):.6f}", about]]


def _short(text: str) -> str:
    words = one_line(text)
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 3]}..."


def data(outcome: Score | ModelWorkerError) -> Mapping[str, Any]:
    """One answer for `-o json`."""
    if not isinstance(outcome, Score):
        return {"error": {"type": type(outcome).__name__, "message": str(outcome)}}
    return {
        "score": float(outcome),
        "aggregation": outcome.aggregation,
        "steps": [
            compact(
                {
                    "score": step.value,
                    "startChar": step.start_char,
                    "endChar": step.end_char,
                    "details": dict(step.details) if step.details else None,
                }
            )
            for step in outcome.steps
        ],
        "truncated": outcome.truncated,
        "recipe": outcome.recipe,
        "recipeHash": outcome.recipe_hash,
        "revision": outcome.revision,
        "tokens": outcome.token_count,
        "worker": outcome.worker,
    }
