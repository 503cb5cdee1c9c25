"""What a reward model says: a number that knows its steps and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self


@dataclass(frozen=True, slots=True)
class StepScore:
    """The score of one step.

    `start_char` and `end_char` are its half-open range in the response, `start_token` and
    `end_token` that in the tokens of the model's whole input. `details` is what the model
    says besides, such as ReasonEval's redundancy.
    """

    value: float
    start_char: int
    end_char: int
    start_token: int
    end_token: int
    details: Mapping[str, float] | None = None

    def __float__(self) -> float:
        return self.value


class Score(float):
    """The score of one answer, as a float: it sorts, adds up and goes into arrays.

    Attributes:
        steps: one for each step; of an outcome model one for the whole answer.
        aggregation: how the steps' scores became this one.
        truncated: whether the beginning of the input was cut off to fit the model.
        recipe: how the worker scores, such as `MathShepherd`.
        recipe_hash: changes whenever the same input may score differently.
        revision: the model's, as the worker loaded it.
        token_count: tokens of the model's whole input.
        worker: the pod's name, or its URL where it does not name itself.
    """

    __slots__ = (
        "aggregation",
        "recipe",
        "recipe_hash",
        "revision",
        "steps",
        "token_count",
        "truncated",
        "worker",
    )
    steps: tuple[StepScore, ...]
    aggregation: str
    truncated: bool
    recipe: str
    recipe_hash: str
    revision: str
    token_count: int
    worker: str

    def __new__(
        cls,
        value: float,
        *,
        steps: tuple[StepScore, ...],
        aggregation: str,
        truncated: bool,
        recipe: str,
        recipe_hash: str,
        revision: str,
        token_count: int,
        worker: str,
    ) -> Self:
        """A score of this value."""
        made = super().__new__(cls, value)
        for name, fact in (
            ("steps", steps),
            ("aggregation", aggregation),
            ("truncated", truncated),
            ("recipe", recipe),
            ("recipe_hash", recipe_hash),
            ("revision", revision),
            ("token_count", token_count),
            ("worker", worker),
        ):
            object.__setattr__(made, name, fact)
        return made

    @property
    def step_scores(self) -> list[float]:
        """The steps' values."""
        return [step.value for step in self.steps]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Score cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Score cannot be changed: {name}")

    def __repr__(self) -> str:
        steps = ", ".join(f"{value:.6g}" for value in self.step_scores)
        cut = ", truncated" if self.truncated else ""
        return f"Score({float(self)!r}, {self.aggregation} of [{steps}]{cut}, {self.recipe})"

    def __str__(self) -> str:
        return float.__repr__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (float(self), {name: getattr(self, name) for name in self.__slots__})


def _again(value: float, facts: dict[str, Any]) -> Score:
    return Score(value, **facts)
