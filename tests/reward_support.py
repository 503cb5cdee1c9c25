"""A small recipe over the byte tokenizer, and tiny checkpoints of every reward architecture."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from modelworker_api.rewards import Aggregation, Family, ScoreType, ScoringConfig
from modelworker_server.errors import NonFiniteScore
from modelworker_server.scoring.values import (
    CheckpointFacts,
    Head,
    HeadKind,
    Item,
    Layout,
    Place,
    Row,
    Scores,
    ScoringInfo,
    StepScore,
    Templated,
    Tokenizer,
)
from tests.engine_support import save

TAG = 4
"""`<a>` of the byte tokenizer."""
CANDIDATES = Head(HeadKind.CANDIDATES, (75, 77))
PROCESS = ScoringConfig(type=ScoreType.PROCESS, family=Family.CUSTOM)


@dataclass(frozen=True)
class TinyScorer:
    """Context and steps as bytes, a tag after each step; a score is the row's first number."""

    head: Head = CANDIDATES
    encode: Callable[[str], list[int]] = field(default=lambda text: [8 + b for b in text.encode()])
    incremental: bool = True
    offset: int = 0
    """Where a step is read, relative to its tag."""
    values: Callable[[Sequence[Row]], list[float]] = field(
        default=lambda rows: [row[0] for row in rows]
    )
    type: ScoreType = ScoreType.PROCESS

    @property
    def info(self) -> ScoringInfo:
        return ScoringInfo(
            family=Family.CUSTOM,
            recipe_hash="tiny",
            type=self.type,
            aggregation=Aggregation.MIN,
            step_separator="\n\n",
            compared=False,
        )

    def lay_out(self, item: Item | Templated) -> Layout:
        assert isinstance(item, Item)
        return self.of(item.context[-1][1], item.steps, item.spans)

    def lay_out_tagged(self, text: str) -> Layout | None:
        return None

    def of(
        self, question: str, steps: Sequence[str], spans: Sequence[tuple[int, int]] = ()
    ) -> Layout:
        """The layout of a question and its steps."""
        ids = [1, *self.encode(question)]
        shared = len(ids)
        places: list[Place] = []
        reads: list[int] = []
        for number, step in enumerate(steps):
            begin = len(ids)
            ids += [*self.encode(step), TAG]
            reads.append(len(ids) - 1 + self.offset)
            chars = spans[number] if spans else (0, 0)
            places.append(Place(read=number, chars=chars, tokens=(begin, len(ids) - 1)))
        # What comes after the last tag cannot change a score.
        return Layout((*ids, 2), tuple(reads), tuple(places), shared=shared)

    def combine(self, layout: Layout, rows: Sequence[Row]) -> Scores:
        assert len(rows) == len(layout.reads)
        values = self.values(rows)
        for step, value in enumerate(values):
            if math.isnan(value):
                raise NonFiniteScore(f"step {step} is not a number", step=step)
        return Scores(tuple(StepScore(value) for value in values))


SCORER = TinyScorer()


def binder(scorer: TinyScorer) -> Callable[..., TinyScorer]:
    """A `bind` that gives this scorer."""

    def bind(
        config: ScoringConfig, facts: CheckpointFacts, tokenizer: Tokenizer, /, *, max_tokens: int
    ) -> TinyScorer:
        return scorer

    return bind


def numbers(scores: object) -> list[float]:
    """The values of one input's scores."""
    assert isinstance(scores, Scores), scores
    return [step.value for step in scores.steps]


def rewrite(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    rename: Callable[[str], str] = lambda name: name,
    drop: Sequence[str] = (),
    add: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Change a saved checkpoint: its config.json, names of tensors, and which there are."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    weights = folder / "model.safetensors"
    tensors = {
        rename(name): tensor
        for name, tensor in load_file(weights).items()
        if not name.startswith(tuple(drop) or ("-",))
    }
    save_file({**tensors, **(add or {})}, weights, metadata={"format": "pt"})
    return folder


def random(*shape: int, seed: int = 5) -> torch.Tensor:
    """Reproducible numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_head(folder: Path, kind: str, head: dict[str, torch.Tensor], **config: Any) -> Path:
    """A checkpoint whose language-model head is replaced by other tensors."""
    save(folder, kind)
    return rewrite(folder, config=config, drop=["lm_head"], add=head)
