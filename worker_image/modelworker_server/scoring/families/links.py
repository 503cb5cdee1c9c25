"""From the rows that a head gives to scores: plain arithmetic on Python floats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from modelworker_server.errors import NonFiniteScore
from modelworker_server.scoring.values import Layout, Row, StepScore


class Link(Protocol):
    """How rows become scores."""

    def scores(self, layout: Layout, rows: Sequence[Row]) -> tuple[StepScore, ...]:
        """One score for each place, from one row for each read.

        Raises:
            NonFiniteScore: a number is NaN or infinite; it names the step.
            ValueError: a row is not as wide as this link reads, which is a bug.
        """


def softmax(row: Row) -> list[float]:
    """Probabilities from logits; the largest is taken off first, so none overflows."""
    highest = max(row)
    powers = [math.exp(logit - highest) for logit in row]
    total = math.fsum(powers)
    return [power / total for power in powers]


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)) without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1 + power)


class RowLink:
    """A link that makes each place's score from the row of its read alone."""

    width: int
    """Numbers in a row."""

    def of(self, row: Row) -> StepScore:
        """The score of a row of finite numbers."""
        raise NotImplementedError

    def scores(self, layout: Layout, rows: Sequence[Row]) -> tuple[StepScore, ...]:
        """See `Link.scores`."""
        scores = []
        for step, place in enumerate(layout.places):
            row = rows[place.read]
            require_width(row, self.width)
            require_finite(row, step)
            scores.append(self.of(row))
        return tuple(scores)


@dataclass(frozen=True, slots=True)
class Probability(RowLink):
    """softmax(row)[index]."""

    index: int
    width: int

    def of(self, row: Row) -> StepScore:
        """The probability of one of the candidates or labels."""
        return StepScore(softmax(row)[self.index])


@dataclass(frozen=True, slots=True)
class Margin(RowLink):
    """softmax(row)[index] minus the other one's probability; between -1 and 1."""

    index: int
    width: int = 2

    def of(self, row: Row) -> StepScore:
        """The difference of two probabilities."""
        probabilities = softmax(row)
        return StepScore(probabilities[self.index] - probabilities[1 - self.index])


@dataclass(frozen=True, slots=True)
class Logistic(RowLink):
    """sigmoid(row[index])."""

    index: int = 0
    width: int = 1

    def of(self, row: Row) -> StepScore:
        """The sigmoid of one number."""
        return StepScore(sigmoid(row[self.index]))


@dataclass(frozen=True, slots=True)
class Plain(RowLink):
    """(row[index] - mean) / std; unbounded."""

    index: int = 0
    width: int = 1
    mean: float = 0.0
    std: float = 1.0

    def of(self, row: Row) -> StepScore:
        """The number itself, or normalised."""
        return StepScore((row[self.index] - self.mean) / self.std)


@dataclass(frozen=True, slots=True)
class Validity(RowLink):
    """ReasonEval: of the labels negative, neutral and positive, p(neutral) + p(positive).

    p(neutral) alone is the step's redundancy.
    """

    width: int = 3

    def of(self, row: Row) -> StepScore:
        """The validity, with the redundancy in the details."""
        _, neutral, positive = softmax(row)
        return StepScore(neutral + positive, {"redundancy": neutral})


@dataclass(frozen=True, slots=True)
class Accumulated:
    """An implicit reward: beta times the sum of the log ratios up to a step's read.

    That is q. The step's own part r is q less that of the step before.
    """

    beta: float
    cumulative: bool = True
    """q, or else r."""

    def scores(self, layout: Layout, rows: Sequence[Row]) -> tuple[StepScore, ...]:
        """See `Link.scores`."""
        for row in rows:
            require_width(row, 1)
        begin = 0
        for step, place in enumerate(layout.places):
            for row in rows[begin : place.read + 1]:
                require_finite(row, step)
            begin = place.read + 1
        sums = list(accumulate(row[0] for row in rows))
        totals = [self.beta * sums[place.read] for place in layout.places]
        if self.cumulative:
            return tuple(StepScore(total) for total in totals)
        before = [0.0, *totals[:-1]]
        return tuple(StepScore(q - last) for q, last in zip(totals, before, strict=True))


@dataclass(frozen=True, slots=True)
class Gated:
    """ArmoRM: the gate's weights at read 0 on the transformed rewards at the place's read.

    A row holds the objectives' rewards, the same transformed, and the gate's weights.
    """

    def scores(self, layout: Layout, rows: Sequence[Row]) -> tuple[StepScore, ...]:
        """See `Link.scores`; the objectives' own rewards are in the details."""
        (place,) = layout.places
        gate, last = rows[0], rows[place.read]
        objectives = len(last) // 3
        for row in (gate, last):
            require_width(row, 3 * objectives)
            require_finite(row, 0)
        weights, transformed = gate[2 * objectives :], last[objectives : 2 * objectives]
        details = {f"objective_{i}": reward for i, reward in enumerate(last[:objectives])}
        value = math.fsum(w * reward for w, reward in zip(weights, transformed, strict=True))
        return (StepScore(value, details),)


def require_width(row: Row, width: int) -> None:
    """Refuse a row of another width: the head is not the one that was asked for."""
    if len(row) != width:
        raise ValueError(f"the head gave a row of {len(row)} numbers instead of {width}")


def require_finite(row: Row, step: int) -> None:
    """Refuse NaN and infinity, from which no score can be made.

    Raises:
        NonFiniteScore: naming the step.
    """
    if not all(map(math.isfinite, row)):
        raise NonFiniteScore(
            f"the model gave NaN or infinity for step {step}, so it has no score; another dtype, "
            "such as bfloat16 or float32, often helps",
            step=step,
        )
