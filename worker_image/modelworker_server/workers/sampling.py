"""Choosing the next tokens of a batch of rows.

The order is that of transformers: repetition penalty, temperature, top_k, top_p, min_p.
Log-probabilities are those of the model's own distribution, before all of it. Every row
draws one number per token from its own generator, so what a row gets does not depend on
who else is in the batch.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modelworker_server.workers.base import SamplingParams, TokenLogprob

_TOP_P_CANDIDATES = 256
"""Tokens looked at first for top_p; the whole vocabulary is sorted only if they fall short."""


_GREEDY_BELOW = 1e-5
"""Temperatures too small to divide by in float32 are greedy, as in vLLM."""


class Chooser:
    """The sampling state of one sequence: its parameters, generator and tokens seen."""

    def __init__(self, params: SamplingParams, index: int, prompt_ids: Sequence[int]) -> None:
        self.params = params
        # A seed derived from (seed, index), the same on every platform and device.
        seed = None if params.seed is None else f"{params.seed}:{index}"
        self._random = random.Random(seed)  # noqa: S311 - sampling, not cryptography
        self._seen = set(prompt_ids) if params.repetition_penalty != 1.0 else None

    def draw(self) -> float:
        """A number in (0, 1]."""
        return 1.0 - self._random.random()

    def saw(self, token_id: int) -> None:
        """Note a token that was chosen."""
        if self._seen is not None:
            self._seen.add(token_id)

    def penalise(self, logits: torch.Tensor) -> None:
        """Apply the repetition penalty to this row's logits in place."""
        if self._seen is None:
            return
        seen = torch.tensor(sorted(self._seen), device=logits.device)
        scores = logits[seen]
        penalty = self.params.repetition_penalty
        logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)


@dataclass(frozen=True, slots=True)
class Choice:
    """The token of one row, and its log-probability if that was asked for."""

    token_id: int
    logprob: TokenLogprob | None


def choose(logits: torch.Tensor, rows: Sequence[Chooser]) -> list[Choice | None]:
    """The next token of each row.

    Args:
        logits: the model's output, float32, one row for each chooser.
        rows: who they are for.

    Returns:
        One choice a row; None where the logits hold no finite maximum.
    """
    raw = logits
    if any(row.params.repetition_penalty != 1.0 for row in rows):
        logits = logits.clone()
        for scores, row in zip(logits, rows, strict=True):
            row.penalise(scores)
    best, ids = logits.max(dim=-1)
    sampled = [i for i, row in enumerate(rows) if row.params.temperature >= _GREEDY_BELOW]
    if sampled:
        scores, peaks = logits[sampled], best[sampled]
        ids[sampled] = _draw(scores - peaks[:, None], [rows[i] for i in sampled])
    logprobs = _logprobs(raw, ids, rows)
    finite = torch.isfinite(best).tolist()
    return [
        Choice(token_id, logprobs.get(i)) if finite[i] else None
        for i, token_id in enumerate(ids.tolist())
    ]


def _draw(scores: torch.Tensor, rows: Sequence[Chooser]) -> torch.Tensor:
    """Sample by the inverse of the cumulative distribution; each row's maximum is 0."""
    device, vocabulary = scores.device, scores.shape[-1]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=device)[:, None]

    params = [row.params for row in rows]
    scores = scores / column([p.temperature for p in params])
    top_ks = [p.top_k if 0 < p.top_k < vocabulary else vocabulary for p in params]
    if (most := max((k for k in top_ks if k < vocabulary), default=0)) > 0:
        largest = scores.topk(most).values
        index = torch.tensor([min(k, most) - 1 for k in top_ks], device=device)[:, None]
        limited = torch.tensor([k < vocabulary for k in top_ks], device=device)[:, None]
        scores = scores.masked_fill(limited & (scores < largest.gather(1, index)), -torch.inf)
    probabilities = scores.softmax(dim=-1)
    least = column([p.min_p for p in params]) * probabilities.amax(dim=-1, keepdim=True)
    if any(p.top_p < 1 for p in params):
        top_p = column([p.top_p for p in params])
        least = torch.maximum(least, _least_of_nucleus(probabilities, top_p))
    probabilities = probabilities.masked_fill(probabilities < least, 0)
    cumulative = probabilities.double().cumsum(dim=-1)
    draws = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=device)
    found = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:]).squeeze(1)
    return found.clamp(max=vocabulary - 1)  # NaN finds no place, and must not fail other rows


def _least_of_nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The smallest probability that top_p keeps in each row, 0 where it keeps all.

    Tokens that tie with it stay, so the result does not depend on the order of a sort.
    """
    for count in (_TOP_P_CANDIDATES, probabilities.shape[-1]):
        top = probabilities.topk(min(count, probabilities.shape[-1])).values
        cumulative = top.cumsum(dim=-1)
        if bool(((cumulative[:, -1:] >= top_p) | (top_p >= 1)).all()):
            break
    kept = ((cumulative - top) < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    return top.gather(1, kept - 1).masked_fill(top_p >= 1, 0)


def _logprobs(
    raw: torch.Tensor, ids: torch.Tensor, rows: Sequence[Chooser]
) -> dict[int, TokenLogprob]:
    wanted = {i: row.params.logprobs for i, row in enumerate(rows)}
    indexes = [i for i, count in wanted.items() if count is not None]
    if not indexes:
        return {}
    logprobs = raw[indexes].log_softmax(dim=-1)
    chosen = logprobs.gather(1, ids[indexes][:, None]).squeeze(1).tolist()
    most = min(max(wanted[i] or 0 for i in indexes), raw.shape[-1])
    top = logprobs.topk(most)
    pairs = [
        tuple(zip(top_ids, values, strict=True))
        for top_ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    token_ids = ids.tolist()
    return {
        i: TokenLogprob(token_ids[i], chosen[at], pairs[at][: wanted[i]])
        for at, i in enumerate(indexes)
    }
