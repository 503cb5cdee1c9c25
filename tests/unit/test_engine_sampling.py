"""Choosing tokens: each rule against transformers' own, and who decides what a row gets."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from modelworker_server.workers.base import SamplingParams
from modelworker_server.workers.sampling import Chooser, choose

VOCABULARY = 50
PROMPT = [3, 7, 7, 11]


def logits(seed: int = 0, rows: int = 1, size: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


def params(**changes: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 1, "seed": 1, **changes})


def tokens(scores: torch.Tensor, *rows: SamplingParams, index: int = 0) -> list[int | None]:
    choosers = [Chooser(row, index, PROMPT) for row in rows]
    return [choice.token_id if choice else None for choice in choose(scores, choosers)]


def drawn(scores: torch.Tensor, row: SamplingParams, count: int = 400) -> Counter[int]:
    chooser = Chooser(row, 0, PROMPT)
    choices = choose(scores.expand(count, -1), [chooser] * count)
    return Counter(choice.token_id for choice in choices if choice)


WARPERS: dict[str, tuple[dict[str, Any], list[Callable[[Any, Any], Any]]]] = {
    "temperature": ({"temperature": 0.5}, [TemperatureLogitsWarper(0.5)]),
    "top_k": ({"top_k": 5}, [TopKLogitsWarper(5)]),
    "top_p": ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
    "min_p": ({"min_p": 0.2}, [MinPLogitsWarper(0.2)]),
    "penalty": ({"repetition_penalty": 1.7}, [RepetitionPenaltyLogitsProcessor(1.7)]),
    "all": (
        {"repetition_penalty": 1.3, "temperature": 1.5, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(1.5),
            TopKLogitsWarper(20),
            TopPLogitsWarper(0.8),
            MinPLogitsWarper(0.05),
        ],
    ),
}


@pytest.mark.parametrize("name", WARPERS)
def test_same_distribution_as_transformers(name: str) -> None:
    changes, warpers = WARPERS[name]
    scores = logits()
    expected = scores
    for warper in warpers:
        expected = warper(torch.tensor([PROMPT]), expected)
    probabilities = expected.softmax(-1)[0]
    found = drawn(scores, params(**changes), 4000)
    assert set(found) <= set(probabilities.nonzero().flatten().tolist())
    for token, probability in enumerate(probabilities.tolist()):
        assert found[token] / 4000 == pytest.approx(probability, abs=0.035), token


def test_top_p_looks_at_the_whole_vocabulary_when_it_must() -> None:
    flat = torch.zeros(1, 1000)
    assert len(drawn(flat, params(top_p=0.9), 3000)) > 600


def test_greedy_takes_the_maximum_after_the_penalty() -> None:
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 7], scores[0, 20] = 2.0, 1.5
    assert tokens(scores, params(temperature=0)) == [7]
    assert tokens(scores, params(temperature=0, repetition_penalty=2.0)) == [20]


def test_the_penalty_counts_what_was_chosen() -> None:
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 20], scores[0, 30] = 2.0, 1.5
    chooser = Chooser(params(temperature=0, repetition_penalty=2.0), 0, PROMPT)
    chooser.saw(20)
    assert [c.token_id if c else None for c in choose(scores, [chooser])] == [30]


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        pytest.param({}, 20, id="none"),
        pytest.param({"presence_penalty": 0.4}, 20, id="presence-small"),
        pytest.param({"presence_penalty": 0.6}, 30, id="presence"),
        pytest.param({"frequency_penalty": 0.15}, 20, id="frequency-small"),
        pytest.param({"frequency_penalty": 0.2}, 30, id="frequency-three-times"),
        pytest.param({"presence_penalty": 0.3, "frequency_penalty": 0.1}, 30, id="both"),
        pytest.param({"presence_penalty": -2.0}, 20, id="a-reward"),
        pytest.param({"logit_bias": ((30, 0.6),)}, 30, id="bias"),
        pytest.param({"logit_bias": ((20, -100.0), (30, -100.0))}, 7, id="bans"),
    ],
)
def test_penalties_and_bias(changes: dict[str, Any], best: int) -> None:
    scores = torch.zeros(1, VOCABULARY)
    # 7 is in the prompt alone, 20 was generated three times, 30 never.
    scores[0, 20], scores[0, 30], scores[0, 7] = 2.0, 1.5, 1.0
    before = scores.clone()
    chooser = Chooser(params(temperature=0, **changes), 0, PROMPT)
    for token in (20, 20, 20):
        chooser.saw(token)
    assert [c.token_id if c else None for c in choose(scores, [chooser])] == [best]
    assert torch.equal(scores, before), "the model's output is left as it was"


@pytest.mark.parametrize(
    ("penalties", "generated"),
    [
        pytest.param({"presence_penalty": 1.5}, [4, 4, 9], id="presence"),
        pytest.param({"frequency_penalty": -0.7}, [4, 4, 9], id="frequency"),
        pytest.param({"presence_penalty": -2.0, "frequency_penalty": 2.0}, [0, 1, 1], id="both"),
    ],
)
def test_openais_formula(penalties: dict[str, float], generated: list[int]) -> None:
    scores = logits(8)
    chooser = Chooser(params(**penalties), 0, PROMPT)
    for token in generated:
        chooser.saw(token)
    changed = scores[0].clone()
    chooser.change(changed)
    for token in range(VOCABULARY):
        times = generated.count(token)
        expected = (
            float(scores[0, token])
            - times * penalties.get("frequency_penalty", 0)
            - (times > 0) * penalties.get("presence_penalty", 0)
        )
        assert float(changed[token]) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1e-46, 1e-6, 1e-4], ids=str)
def test_tiny_temperatures_are_greedy(temperature: float) -> None:
    scores = logits(4)
    assert tokens(scores, params(temperature=temperature)) == [int(scores.argmax())]


@pytest.mark.parametrize("top_k", [0, -1, VOCABULARY, 10**6], ids=str)
def test_top_k_that_keeps_all(top_k: int) -> None:
    assert drawn(logits(5), params(top_k=top_k)) == drawn(logits(5), params())


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    mine, others = logits(1), logits(2, rows=3)
    row = params(temperature=0.9, top_p=0.95, seed=42)
    alone = tokens(mine, row)
    together = tokens(
        torch.cat([others, mine]),
        params(temperature=0),
        params(top_k=3, seed=9),
        params(repetition_penalty=1.4, seed=7),
        row,
    )
    assert alone == together[-1:]


def test_seed_and_sample_number_decide() -> None:
    flat = torch.zeros(1, VOCABULARY)
    picks = {
        (seed, index): tuple(drawn_in_order(flat, seed, index))
        for seed in (1, 2)
        for index in (0, 1)
    }
    assert len(set(picks.values())) == 4
    assert picks[1, 0] == tuple(drawn_in_order(flat, 1, 0))


def drawn_in_order(scores: torch.Tensor, seed: int, index: int) -> list[int | None]:
    chooser = Chooser(params(seed=seed), index, PROMPT)
    return [
        choice.token_id if choice else None
        for _ in range(8)
        for choice in choose(scores, [chooser])
    ]


def test_logprobs_are_the_models_own() -> None:
    scores = logits(3, rows=3)
    rows = [
        params(temperature=0.1, repetition_penalty=2.0, logprobs=2),
        params(),
        params(temperature=0, logprobs=0),
    ]
    first, none, plain = choose(scores, [Chooser(row, 0, PROMPT) for row in rows])
    raw = scores.log_softmax(-1)
    assert first is not None
    assert first.logprob is not None
    assert first.logprob.logprob == pytest.approx(float(raw[0, first.token_id]))
    assert first.logprob.rank == int((raw[0] >= raw[0, first.token_id]).sum())
    best = raw[0].topk(2)
    assert [pair[0] for pair in first.logprob.top] == best.indices.tolist()
    assert [pair[1] for pair in first.logprob.top] == pytest.approx(best.values.tolist())
    assert none is not None
    assert none.logprob is None
    assert plain is not None
    assert plain.logprob is not None
    assert plain.logprob.top == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
def test_numbers_that_are_none_fail_their_row_alone(bad: float, temperature: float) -> None:
    scores = logits(6, rows=2)
    good = tokens(scores[1:], params(temperature=temperature))
    scores[0, 5] = bad
    row = params(temperature=temperature, logprobs=1, top_p=0.9)
    assert tokens(scores, row, params(temperature=temperature)) == [None, *good]
