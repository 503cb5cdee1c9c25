"""A reward model's self-test before it is Ready: the same input scores the same in every way."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from modelworker_api.rewards import ScoreType
from modelworker_api.wire import FailureReason
from modelworker_server.errors import ContextTooLong, LoadError, NonFiniteScore, WorkerError
from modelworker_server.scoring.steps import item_from_steps
from modelworker_server.scoring.values import Layout, Scorer
from modelworker_server.workers.sequences import Result

Score = Callable[[Sequence[Layout]], Sequence[Result]]
"""Scores of inputs that are run together, each time from an empty cache."""
Extend = Callable[[Layout, Layout], Result]
"""The second input's scores after the first one was run and kept."""

TOLERANCE: Final = {"float32": 1e-3}
"""How far one input's scores may be apart, by dtype; half precision rounds more."""
_HALF: Final = 3e-2

_QUESTION: Final = "Anna has 3 apples and buys 4 more. How many apples does she have?"
_STEPS: Final = (
    "She begins with 3 apples and buys 4 more.",
    "So she has 3 + 4 = 7 apples. The answer is 7.",
)
_LONGER: Final = "Checking it by counting: 3, then 4, 5, 6, 7. That is right."


def self_test(scorer: Scorer, score: Score, extend: Extend | None, *, dtype: str) -> None:
    """Score a fixed example alone, in a batch, and upon its own beginning.

    Args:
        scorer: the recipe.
        score: runs inputs together.
        extend: runs an input after its beginning was kept; None if nothing is kept.
        dtype: the model's, such as `bfloat16`.

    Raises:
        LoadError: ScoreShapeMismatch, NonFiniteScore or BatchMismatch, with the numbers.
    """
    beginning, probe, longer = (_lay_out(scorer, steps) for steps in _examples())
    alone = _values(scorer, probe, score([probe])[0])
    batch = score([longer, probe, beginning])
    for one, result in zip((longer, probe, beginning), batch, strict=True):
        values = _values(scorer, one, result)
        if one is probe:
            _compare(alone, values, dtype, "in a batch with a longer and a shorter one")
    if extend is not None:
        values = _values(scorer, probe, extend(beginning, probe))
        _compare(alone, values, dtype, "after its own beginning was kept")


def _examples() -> tuple[tuple[str, ...], ...]:
    return _STEPS[:1], _STEPS, (*_STEPS, _LONGER)


def _lay_out(scorer: Scorer, steps: Sequence[str]) -> Layout:
    """The layout of the example with these steps, checked."""
    item = item_from_steps((("user", _QUESTION),), steps, scorer.info.step_separator)
    try:
        layout = scorer.lay_out(item)
    except ContextTooLong as error:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"the self-test's own example does not fit ({error.message}); raise "
            "spec.scoring.maxInputTokens, or shorten the template",
        ) from error
    except WorkerError as error:
        raise _shape(f"its example of {len(steps)} steps was refused: {error.message}") from error
    wanted = len(steps) if scorer.info.type is ScoreType.PROCESS else 1
    if len(layout.places) != wanted:
        raise _shape(f"its example has {len(layout.places)} places where {wanted} are wanted")
    return layout


def _values(scorer: Scorer, layout: Layout, result: Result) -> list[float]:
    """One finite number for each place."""
    if isinstance(result, NonFiniteScore):
        raise _not_finite(result.message) from result
    if isinstance(result, WorkerError):
        raise _shape(f"its example was not scored: {result.message}") from result
    values = [step.value for step in result.steps]
    if len(values) != len(layout.places):
        raise _shape(f"{len(values)} scores came back for {len(layout.places)} places")
    if not all(map(math.isfinite, values)):
        raise _not_finite(f"{scorer.info.family} gave {values}")
    return values


def _compare(alone: Sequence[float], other: Sequence[float], dtype: str, how: str) -> None:
    tolerance = TOLERANCE.get(dtype, _HALF)
    apart = max(abs(a - b) for a, b in zip(alone, other, strict=True))
    # Unbounded scores are compared by their size.
    if apart > tolerance * max(1.0, *map(abs, alone)):
        raise LoadError(
            FailureReason.BATCH_MISMATCH,
            f"the self-test's example scores {list(alone)} alone and {list(other)} {how}: "
            f"{apart:.2g} apart, {tolerance:.2g} is allowed in {dtype}; choose dtype float32, "
            "or report this model",
        )


def _shape(what: str) -> LoadError:
    return LoadError(
        FailureReason.SCORE_SHAPE_MISMATCH,
        f"the self-test failed: {what}; check that spec.scoring fits the model",
    )


def _not_finite(what: str) -> LoadError:
    return LoadError(
        FailureReason.NON_FINITE_SCORE,
        f"the self-test failed: {what}; choose dtype bfloat16 or float32, or check the weights",
    )
