"""Choosing the next tokens of a batch of rows.

The order is that of vLLM: logit bias, repetition, frequency and presence penalty,
temperature, top_k, top_p, min_p.
Log-probabilities are those of the model's own distribution, before all of it. Every row
draws one number per token from its own generator, so what a row gets does not depend on
who else is in the batch.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        counts = params.presence_penalty != 0 or params.frequency_penalty != 0
        self._counts: Counter[int] | None = Counter() if counts else None

    @property
    def changes_logits(self) -> bool:
        """Whether the row is not drawn from the model's own distribution."""
        seen, counts = self._seen is not None, self._counts is not None
        return seen or counts or bool(self.params.logit_bias)

    def draw(self) -> float:
        """A number in (0, 1]."""
        return 1.0 - self._random.random()

    def saw(self, token_id: int) -> None:
        """Note a token that was chosen."""
        if self._seen is not None:
            self._seen.add(token_id)
        if self._counts is not None:
            self._counts[token_id] += 1

    def change(self, logits: torch.Tensor) -> None:
        """Apply the bias and the penalties to this row's logits in place."""
        params, device = self.params, logits.device
        if params.logit_bias:
            ids, bias = zip(*params.logit_bias, strict=True)
            logits[torch.tensor(ids, device=device)] += torch.tensor(bias, device=device)
        if self._seen is not None:
            seen = torch.tensor(sorted(self._seen), device=device)
            scores = logits[seen]
            penalty = params.repetition_penalty
            logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
        if self._counts:
            ids, counts = zip(*self._counts.items(), strict=True)
            times = torch.tensor(counts, dtype=logits.dtype, device=device)
            # OpenAI's formula: of generated tokens alone, as in vLLM.
            logits[torch.tensor(ids, device=device)] -= (
                times * params.frequency_penalty + params.presence_penalty
            )


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
    if any(row.changes_logits for row in rows):
        logits = logits.clone()
        for scores, row in zip(logits, rows, strict=True):
            row.change(scores)
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
    most = max(wanted[i] or 0 for i in indexes)
    found = logprobs_of(raw[indexes], ids[indexes], most)
    return {
        i: replace(logprob, top=logprob.top[: wanted[i]])
        for i, logprob in zip(indexes, found, strict=True)
    }


def logprobs_of(logits: torch.Tensor, ids: torch.Tensor, top: int) -> list[TokenLogprob]:
    """The log-probability of one token in each row, of the `top` likeliest ones, and its rank.

    Args:
        logits: the model's output, one row of its vocabulary for each token.
        ids: the tokens, on the same device.
        top: how many of the likeliest tokens to tell, at most the whole vocabulary.
    """
    logprobs = logits.float().log_softmax(dim=-1)
    chosen = logprobs.gather(1, ids[:, None])
    ranks = (logprobs >= chosen).sum(dim=-1)
    best = logprobs.topk(min(top, logprobs.shape[-1]))
    return [
        TokenLogprob(token_id, logprob, tuple(zip(top_ids, values, strict=True)), rank)
        for token_id, logprob, top_ids, values, rank in zip(
            ids.tolist(),
            chosen.squeeze(1).tolist(),
            best.indices.tolist(),
            best.values.tolist(),
            ranks.tolist(),
            strict=True,
        )
    ]
