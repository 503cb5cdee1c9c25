"""What the golden tests share: problems, a family's reference at work, and the worker's scores."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from modelworker_api.rewards import ReferenceModel, ScoreType, ScoringConfig
from modelworker_server.scoring.steps import item_from_steps
from modelworker_server.scoring.values import Item, Layout, Scores, Templated
from modelworker_server.workers.base import BaseModelWorker
from tests import engine_support
from tests.golden_cases import Case
from tests.golden_models import Side, Tiny
from tests.golden_process import Laid, LogRatio
from tests.golden_tokenizers import Files


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, and an answer in steps."""

    question: str
    steps: tuple[str, ...]


PROBLEMS = (
    Problem(
        "Janet's ducks lay 16 eggs per day. She eats three and bakes with four. She sells the "
        "rest for $2 each. How much does she make every day?",
        (
            "Step 1: Janet eats 3 of the 16 eggs, so 16 - 3 = 13 are left.",
            "Step 2: She bakes with four: 13 - 4 = 9 remain.",
            "Step 3: She sells 9 eggs for $2 each, which is 9 * 2 = $18.",
            "Step 4: Hence she makes \\boxed{18} dollars. The answer is: 18",
        ),
    ),
    Problem("What is 1+1?", ("2",)),
    Problem(
        "Quel est \\(\\sqrt{16} \\cdot π\\) ? 日本語で答えてください 😀",
        ("√16 = 4 (руки).", "Donc 4·π ≈ 12.566…", "答えは 4π です。"),
    ),
    Problem(
        "Solve x² - 5x + 6 = 0.",
        ("First factor:", "(x - 2)(x - 3) = 0!", "So x = 2 or x = 3.", "+", "- done", "x ∈ {2, 3}"),
    ),
)
"""Of different lengths; steps end in `.`, with which some tokenizers merge new lines."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A case with its checkpoint in a folder and its models in memory."""

    case: Case
    files: Files
    folder: Path
    model: Tiny
    reference: Tiny | None
    """Of an implicit reward, the second model."""

    @classmethod
    def make(
        cls,
        case: Case,
        files: Files,
        folder: Path,
        *,
        calm: bool = False,
        shape: Mapping[str, Any] = MappingProxyType({}),
    ) -> "Golden":
        """Write the checkpoints below `folder`; `shape` as in `golden_models.tiny`."""
        model = case.build(files, calm=calm, shape=shape)
        case.save(folder / "model", files, model)
        reference = None
        if isinstance(case.score, LogRatio):
            reference = case.build(files, seed=1, calm=calm, shape=shape)
            case.save(folder / "reference", files, reference)
        return cls(case, files, folder, model, reference)

    def to(self, dtype: torch.dtype) -> "Golden":
        """The same with both models' weights rounded to a dtype."""
        reference = None if self.reference is None else self.reference.to(dtype)
        return Golden(self.case, self.files, self.folder, self.model.to(dtype), reference)

    def lay(self, problems: Sequence[Problem]) -> list[Laid]:
        """The reference's inputs."""
        return [self.case.lay(self.files, p.question, p.steps) for p in problems]

    def scores(self, laid: Sequence[Laid], side: Side = "right") -> list[list[float]]:
        """The reference's scores, all inputs in one batch."""
        batch = [one.ids for one in laid]
        rows = self.model.hidden(batch, side)
        if self.reference is None:
            assert not isinstance(self.case.score, LogRatio)
            score = self.case.score
            return [
                score(self.model, self.files, one, states)
                for one, states in zip(laid, rows, strict=True)
            ]
        assert isinstance(self.case.score, LogRatio)
        pair, others = (self.model, self.reference), self.reference.hidden(batch, side)
        return [
            self.case.score(pair, one, (ours, theirs))
            for one, ours, theirs in zip(laid, rows, others, strict=True)
        ]

    def alone(self, problems: Sequence[Problem]) -> list[list[float]]:
        """The reference's scores, each input by itself."""
        return [self.scores([one])[0] for one in self.lay(problems)]

    def scoring(self, **changes: Any) -> ScoringConfig:
        """How the worker is told to score."""
        settings: dict[str, Any] = {"type": self.case.type, "family": self.case.family}
        if self.reference is not None:
            folder = str(self.folder / "reference")
            settings["reference"] = ReferenceModel(source="local", model=folder)
        return ScoringConfig(**{**settings, **self.case.scoring, **changes})

    @contextmanager
    def serving(self, dtype: str = "float32", **changes: Any) -> "Iterator[Serving]":
        """A worker that has loaded the checkpoint."""
        settings = engine_support.config(
            self.folder / "model", dtype=dtype, scoring=self.scoring(**changes)
        )
        with engine_support.running(settings) as (runner, worker):
            yield Serving(runner, worker)


@dataclass(frozen=True, slots=True)
class Serving:
    """A loaded worker and its event loop."""

    runner: asyncio.Runner
    worker: BaseModelWorker

    def score(self, inputs: Sequence[Item | Templated | Layout]) -> list[Scores]:
        """The scores of inputs, asked for in one call."""
        layouts = [one if isinstance(one, Layout) else self.worker.lay_out(one) for one in inputs]
        found: list[Scores] = []
        for one in self.runner.run(self.worker.score(layouts)):
            if isinstance(one, Exception):
                raise one
            found.append(one)
        return found

    def results(self, problems: Sequence[Problem]) -> list[Scores]:
        """The same for problems."""
        return self.score([item(self.worker, problem) for problem in problems])

    def scores(self, problems: Sequence[Problem]) -> list[list[float]]:
        """Their values."""
        return values(self.results(problems))


def values(scores: Sequence[Scores]) -> list[list[float]]:
    """The numbers alone."""
    return [[step.value for step in one.steps] for one in scores]


def item(worker: BaseModelWorker, problem: Problem) -> Item:
    """A problem as the HTTP layer hands it over; of an outcome model, the answer in one."""
    context = (("user", problem.question),)
    if worker.scoring.type is ScoreType.PROCESS:
        return item_from_steps(context, problem.steps, worker.scoring.step_separator)
    return item_from_steps(context, ["\n\n".join(problem.steps)], "\n\n")


def difference(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest distance between two tables of the same shape."""
    assert [len(row) for row in found] == [len(row) for row in expected]
    pairs = zip(chain.from_iterable(found), chain.from_iterable(expected), strict=True)
    return max(abs(a - b) for a, b in pairs)
