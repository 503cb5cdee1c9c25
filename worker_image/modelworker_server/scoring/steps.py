"""Steps of a response: splitting, joining, and from their scores to one."""

import math
from collections.abc import Sequence

from modelworker_api.rewards import Aggregation
from modelworker_server.scoring.values import Item, Turn

Span = tuple[int, int]
"""First and last-plus-one character."""


def split(response: str, separator: str) -> tuple[Span, ...]:
    """The pieces between separators, exactly as they are; blank ones are no steps.

    Args:
        response: the whole answer.
        separator: what stands between two steps; not empty.

    Returns:
        The range of characters of each step in order; none for a blank response.
    """
    spans = []
    start = 0
    for piece in response.split(separator):
        if piece.strip():
            spans.append((start, start + len(piece)))
        start += len(piece) + len(separator)
    return tuple(spans)


def item_from_steps(context: tuple[Turn, ...], steps: Sequence[str], separator: str) -> Item:
    """An item from steps that were told apart already, joined with `separator`.

    Args:
        context: the conversation before the answer.
        steps: one at least, none of them blank.
        separator: what stands between two steps in the response.

    Raises:
        ValueError: there is no step, or one is blank.
    """
    if not steps or not all(step.strip() for step in steps):
        raise ValueError("an item needs steps, and none of them blank")
    spans = []
    start = 0
    for step in steps:
        spans.append((start, start + len(step)))
        start += len(step) + len(separator)
    return Item(context=context, response=separator.join(steps), spans=tuple(spans))


def aggregate(values: Sequence[float], how: Aggregation) -> float:
    """One score from those of the steps.

    Args:
        values: the scores in order, one at least.
        how: smallest, last, product, arithmetic mean or sum.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("no scores to aggregate")
    match how:
        case Aggregation.MIN:
            return min(values)
        case Aggregation.LAST:
            return values[-1]
        case Aggregation.PROD:
            return math.prod(values)
        case Aggregation.MEAN:
            return math.fsum(values) / len(values)
        case Aggregation.SUM:
            return math.fsum(values)
