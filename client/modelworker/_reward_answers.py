"""Answers of `POST /v1/rewards` -> scores. Pure; what does not fit raises `WorkerFailed`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelworker import _errors
from modelworker._answers import Answer, read
from modelworker._score_inputs import Item
from modelworker._scores import Score, StepScore

Model = tuple[str, str]
"""Revision of the model and hash of the recipe: what makes two scores comparable."""


def scores(
    answer: Answer, items: Sequence[Item], indices: Sequence[int]
) -> list[Score | _errors.ScoreError]:
    """One result for each input of a request, in order.

    Args:
        answer: what the worker sent.
        items: the inputs of the request.
        indices: their places in the caller's list, for the errors.

    Raises:
        WorkerFailed: if a result is missing, doubled, out of order or no finite number.
    """

    def parse(body: Mapping[str, Any]) -> list[Score | _errors.ScoreError]:
        data = body["data"]
        if [result["index"] for result in data] != list(range(len(items))):
            raise ValueError(f"{len(items)} inputs have results {[r['index'] for r in data]!r:.80}")
        return [
            _result(answer, body, result, item, index)
            for result, item, index in zip(data, items, indices, strict=True)
        ]

    return read(answer, parse)


def model_of(answer: Answer) -> Model:
    """Which revision and recipe gave an answer.

    Raises:
        WorkerFailed: if it does not say.
    """
    return read(answer, lambda body: (_text(body, "revision"), _text(body, "recipe_hash")))


def _result(
    answer: Answer, body: Mapping[str, Any], result: Mapping[str, Any], item: Item, index: int
) -> Score | _errors.ScoreError:
    reward: Any = result.get("reward")
    error: Any = result.get("error")
    if (reward is None) == (error is None):
        raise ValueError(f"input {index} has not one of a reward and an error")
    if error is not None:
        return _errors.from_item(
            _text(error, "message"),
            kind=_text(error, "type"),
            index=index,
            step=error.get("step"),
            worker=answer.url,
        )
    steps = tuple(map(_step, reward["steps"]))
    # An outcome model has one score for the whole answer, however many steps it has.
    if not steps or (item.steps is not None and len(steps) not in {1, item.steps}):
        raise ValueError(f"input {index} has {item.steps or 'some'} steps and {len(steps)} scores")
    return Score(
        _number(reward, "score"),
        steps=steps,
        aggregation=_text(reward, "aggregation"),
        truncated=bool(reward["truncated"]),
        recipe=_text(body, "recipe"),
        recipe_hash=_text(body, "recipe_hash"),
        revision=_text(body, "revision"),
        token_count=int(reward["token_count"]),
        worker=answer.worker or answer.url,
    )


def _step(step: Mapping[str, Any]) -> StepScore:
    details = step.get("details")
    return StepScore(
        value=_number(step, "score"),
        start_char=int(step["start_char"]),
        end_char=int(step["end_char"]),
        start_token=int(step["start_token"]),
        end_token=int(step["end_token"]),
        details=None if details is None else {name: _number(details, name) for name in details},
    )


def _number(holder: Mapping[str, Any], name: str) -> float:
    value = holder[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, no finite number")
    return float(value)


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, no text")
    return value
