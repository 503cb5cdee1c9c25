"""Each family: its checkpoint, its tokenizer, and its reference's input and formula."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from modelworker_api.rewards import Family, ScoreType
from tests import golden_models as models
from tests import golden_process as process
from tests.golden_models import Heads, Named, Tiny
from tests.golden_tokenizers import Files

QWEN_VOCABULARY = 151936
"""Qwen2.5 has more embeddings than tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One family's reference, and how its checkpoint looks."""

    family: Family
    lay: process.Lay
    score: process.Score | process.LogRatio
    tokenizer: str
    model_type: str
    architecture: str
    heads: Callable[[int], Heads] = models.language_model
    config: dict[str, Any] = field(default_factory=dict)
    """What config.json has besides."""
    scoring: dict[str, Any] = field(default_factory=dict)
    """What the worker is told besides type and family."""
    type: ScoreType = ScoreType.PROCESS
    tensors: Callable[[Tiny], Named] = models.weights
    finish: Callable[[Path, Tiny], None] = lambda *_: None
    """Writes what the checkpoint has besides."""
    name: str = ""
    """What tells it from other cases of the family."""
    tolerance: float = 1e-5
    """Largest difference in float32."""

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"{self.family}-{self.name}".rstrip("-")

    def build(
        self,
        files: Files,
        *,
        seed: int = 0,
        calm: bool = False,
        shape: Mapping[str, Any] = MappingProxyType({}),
    ) -> Tiny:
        """The model in memory; `shape` as in `golden_models.tiny`."""
        own = QWEN_VOCABULARY if self.model_type == "qwen2" else len(files.plain)
        size = shape.get("vocab_size", own)
        config = {"architectures": [self.architecture], **self.config}
        options: dict[str, Any] = {"seed": seed, "calm": calm, "shape": shape, **config}
        return models.tiny(self.model_type, size, self.heads, **options)

    def save(self, folder: Path, files: Files, model: Tiny) -> Path:
        """The model as a checkpoint."""
        models.save(folder, model, files, self.tensors(model))
        self.finish(folder, model)
        return folder


def labels(count: int) -> dict[str, Any]:
    """How config.json says the number of labels."""
    # transformers keeps the number of labels as their names.
    names = {str(i): f"LABEL_{i}" for i in range(count)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def with_language_head(model: Tiny) -> Named:
    """Qwen2.5-Math-PRM's files have the head of the language model that it began as."""
    named = models.weights(model)
    return named | {"lm_head.weight": torch.zeros_like(named["model.embed_tokens.weight"])}
