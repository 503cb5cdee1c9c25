"""What the reward benchmarks share: SmolLM2 as a +/- judge, texts to score, and baselines."""

import gc
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TAG = "<file_sep>"
"""One token of SmolLM2's vocabulary that no text has."""
CANDIDATES = (" +", " -")
TEXT = (
    "the sum of two numbers is seven and their product ten so each box holds three red balls "
    "then we add four more which gives us eleven in all because half of them were sold before "
    "noon and a third after that she walks five miles every hour for two days"
)
WORDS = TEXT.split()


def scoring(**more: object) -> str:
    """The worker's `--scoring`."""
    custom = {
        "text": "{question}\n{response}",
        "step_tag": TAG,
        "positive_token": CANDIDATES[0],
        "negative_token": CANDIDATES[1],
        "position": "Tag",
        "link": "Softmax",
    }
    return json.dumps({"type": "Process", "family": "Custom", "custom": custom, **more})


@dataclass(frozen=True)
class Answer:
    """A question and the steps of one answer."""

    question: str
    steps: tuple[str, ...]

    @property
    def text(self) -> str:
        """The model's input: a tag after each step."""
        return f"{self.question}\n" + "".join(f"{step}{TAG}" for step in self.steps)


Way = Callable[[list[Answer]], list[list[float]]]
"""One way to get the scores of each step of each answer."""


def words(rng: random.Random, count: int) -> str:
    """So many words, most of them one token long."""
    return " ".join(rng.choices(WORDS, k=count))


class Judge:
    """The model by transformers alone."""

    def __init__(self, folder: Path, file: str) -> None:
        files: dict[str, Any] = {"gguf_file": file}
        auto: Any = AutoModelForCausalLM
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **files)
        self.model = auto.from_pretrained(folder, dtype=torch.float32, **files).eval()
        (self.tag,) = self._encode(TAG)
        self.candidates = [self._encode(token)[0] for token in CANDIDATES]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def one_by_one(self, answers: Sequence[Answer]) -> list[list[float]]:
        """One text in each forward pass, its logits whole, and a collection after each."""
        found = []
        for answer in answers:
            ids = self._encode(answer.text)
            with torch.inference_mode():
                logits = self.model(torch.tensor([ids])).logits[0, :, self.candidates]
                scores = logits.softmax(dim=-1)[:, 0]
            found.append([scores[i].item() for i, token in enumerate(ids) if token == self.tag])
            gc.collect()
        return found

    def batched(self, answers: Sequence[Answer], max_tokens: int) -> list[list[float]]:
        """Padded batches by length, and the two columns of the head at the tags alone."""
        inputs = [self._encode(answer.text) for answer in answers]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        found: dict[int, list[float]] = {}
        head = self.model.lm_head.weight[self.candidates]
        while order:
            rows = max(1, max_tokens // len(inputs[order[0]]))
            while rows > 1 and rows * len(inputs[order[:rows][-1]]) > max_tokens:
                rows -= 1
            chosen, order = order[:rows], order[rows:]
            width = max(len(inputs[i]) for i in chosen)
            ids = torch.tensor([inputs[i] + [0] * (width - len(inputs[i])) for i in chosen])
            with torch.inference_mode():
                hidden = self.model.model(ids, use_cache=False).last_hidden_state
                for row, i in enumerate(chosen):
                    places = [at for at, token in enumerate(inputs[i]) if token == self.tag]
                    scores = (hidden[row, places] @ head.T).softmax(dim=-1)[:, 0]
                    found[i] = scores.tolist()
        return [found[i] for i in range(len(inputs))]


def furthest(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest difference of a score. Ends the run if any is missing."""
    if [len(scores) for scores in found] != [len(scores) for scores in expected]:
        raise SystemExit("scores are missing, or too many")
    pairs = zip(found, expected, strict=True)
    return max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))
