"""Reward schedulers over tiny random models, and what they must give."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from modelworker_server.scoring.batching import Backbone, Output, Row
from modelworker_server.scoring.values import Layout
from modelworker_server.workers.reward.heads import LanguageHead, LinearHead, ReadHead
from modelworker_server.workers.reward.scheduler import RewardScheduler
from modelworker_server.workers.reward.scorings import Scoring
from modelworker_server.workers.sequences import Result, Scored
from tests.engine_support import random_model
from tests.reward_support import CANDIDATES, SCORER, numbers

QUESTIONS = ("How many apples does Anna have now?", "What is 12 times 12, by hand, please?")
STEPS = (
    ("She has 3.", "She buys 4.", "So it is 7."),
    ("12 * 10 = 120", "12 * 2 = 24, so 144"),
    ("x",),
    ("One, two, three, four, five, six, seven, eight and so on.",) * 3,
)
LAYOUTS = [SCORER.of(question, steps) for question in QUESTIONS for steps in STEPS]


def backbone(kind: str = "llama", **overrides: Any) -> tuple[Any, Backbone]:
    model = random_model(kind, **overrides)
    layers = len(DynamicCache(config=model.config).layers)
    return model, Backbone(model.base_model, layers=layers)


def language(model: Any) -> LanguageHead:
    cap = getattr(model.config, "final_logit_softcapping", None)
    return LanguageHead(model.get_output_embeddings().weight.detach(), None, cap)


def candidates(model: Any) -> LinearHead:
    head = language(model)
    return LinearHead((head.rows_of(CANDIDATES.token_ids),), cap=head.cap)


def scheduler(*backbones: Backbone, head: ReadHead, **changes: Any) -> RewardScheduler:
    options = {"scorer": SCORER, "batch_tokens": 256, "cache_tokens": 0, **changes}
    return RewardScheduler(backbones, head, **options)


def run(engine: RewardScheduler, layouts: Sequence[Layout]) -> list[Result]:
    """The results of one call, after as many steps as it takes."""
    engine.add(Scoring(layouts, lambda _: None))
    return list(drain(engine)[-1])


def drain(engine: RewardScheduler) -> list[tuple[Result, ...]]:
    with torch.inference_mode():
        for _ in range(1000):
            if engine.idle():
                break
            engine.step()
    assert engine.idle()
    events, engine.events = engine.events, []
    return [event.results for _, event in events if isinstance(event, Scored)]


def reference(model: Any, layout: Layout) -> list[float]:
    """The first candidate's logit at each read, by the whole model alone."""
    with torch.inference_mode():
        logits = model(torch.tensor([layout.token_ids])).logits[0]
    return [float(logits[read, CANDIDATES.token_ids[0]]) for read in layout.reads]


def check(results: Sequence[Result], wanted: Sequence[list[float]]) -> None:
    assert len(results) == len(wanted)
    for result, expected in zip(results, wanted, strict=True):
        assert numbers(result) == pytest.approx(expected, abs=1e-5, rel=1e-5)


class Counted:
    """Counts the tokens that a backbone runs, and can fail."""

    def __init__(self, base: Backbone) -> None:
        self.tokens = 0
        self.largest = 0
        self.fail: Callable[[Sequence[Row]], None] = lambda rows: None
        self._run = base.run
        base.run = self.run  # type: ignore[method-assign]

    def run(self, rows: Sequence[Row], *, keep: bool) -> Output:
        size = len(rows) * max(len(row.tokens) for row in rows)
        self.fail(rows)
        self.tokens += size
        self.largest = max(self.largest, size)
        return self._run(rows, keep=keep)
