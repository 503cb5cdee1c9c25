"""Tiny checkpoints with reward heads, and workers that serve them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from modelworker_server.scoring.values import Head, HeadKind
from modelworker_server.workers.reward.worker import RewardModelWorker
from tests.engine_support import config, load
from tests.reward_support import PROCESS, TinyScorer, binder, random

HIDDEN = 32
QUESTION, ANSWER = "What is 2 + 3?", ("It is 5.", "Done.")
CLASSIFIER, VALUE = Head(HeadKind.CLASSIFIER), Head(HeadKind.VALUE)
Rows = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def loaded(folder: Path, scorer: TinyScorer, **changes: Any) -> Iterator[tuple[Any, Any]]:
    """A worker and a runner of its event loop."""
    settings = config(folder, **{"scoring": PROCESS, **changes})
    with asyncio.Runner() as runner:
        worker = RewardModelWorker(settings, binder(scorer))
        runner.run(worker.load(lambda *_: None))
        try:
            yield runner, worker
        finally:
            runner.run(worker.close())


def states(folder: Path, ids: Sequence[int], **changes: Any) -> torch.Tensor:
    """The last hidden states by the causal language model that the folder was made from."""
    with torch.inference_mode():
        output = load(folder).base_model(torch.tensor([list(ids)]))
    result: torch.Tensor = output.last_hidden_state[0]
    return result


def one(name: str, labels: int, *, bias: bool) -> tuple[dict[str, torch.Tensor], Rows]:
    """A head of one linear layer, and its rows."""
    weight, offset = random(labels, HIDDEN), random(labels, seed=6)
    tensors = {f"{name}.weight": weight}
    if bias:
        tensors[f"{name}.bias"] = offset
    return tensors, lambda h: linear(h, weight, offset if bias else None)


def two(labels: int) -> tuple[dict[str, torch.Tensor], Rows]:
    """Qwen's head of two layers with a ReLU between."""
    first, second = one("score.0", HIDDEN, bias=True), one("score.2", labels, bias=True)
    return {**first[0], **second[0]}, lambda h: second[1](torch.relu(first[1](h)))
