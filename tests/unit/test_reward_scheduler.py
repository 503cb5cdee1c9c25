"""One input scores the same alone, in any batch, behind a shared prefix and incrementally."""

import pytest
import torch

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import Load
from modelworker_server.workers.reward.heads import LogRatioHead
from modelworker_server.workers.reward.scorings import Scoring
from modelworker_server.workers.sequences import Scored
from tests.engine_support import KINDS
from tests.reward_engines import (
    LAYOUTS,
    QUESTIONS,
    STEPS,
    Counted,
    backbone,
    candidates,
    check,
    drain,
    language,
    reference,
    run,
    scheduler,
)
from tests.reward_support import SCORER, TinyScorer, numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch_tokens", "cache_tokens"),
    [
        pytest.param(1, 0, id="alone"),
        pytest.param(200, 0, id="small-batches"),
        pytest.param(10_000, 0, id="one-batch"),
        pytest.param(10_000, 10_000, id="one-batch-kept"),
        pytest.param(120, 10_000, id="small-batches-kept"),
        pytest.param(120, 100, id="small-cache"),
    ],
)
def test_every_way_gives_the_numbers_of_the_whole_model(
    kind: str, batch_tokens: int, cache_tokens: int
) -> None:
    model, base = backbone(kind)
    engine = scheduler(
        base, head=candidates(model), batch_tokens=batch_tokens, cache_tokens=cache_tokens
    )
    wanted = [reference(model, layout) for layout in LAYOUTS]
    for _ in range(2):
        check(run(engine, LAYOUTS), wanted)
    assert engine.prefixes.size <= cache_tokens


@pytest.mark.parametrize("kind", ["llama", "mistral-window", "gemma2", "gpt2", "bloom"])
def test_growing_chains_are_scored_incrementally(kind: str) -> None:
    model, base = backbone(kind)
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model), cache_tokens=10_000)
    for length in range(1, 5):
        steps = [f"step {n} of it" for n in range(length)]
        chains = [SCORER.of(q, [*steps, end]) for q in QUESTIONS for end in ("a", "bcd")]
        before = ran.tokens
        check(run(engine, chains), [reference(model, chain) for chain in chains])
        if length > 1:
            # One more step each and the tag before it, instead of the whole.
            assert ran.tokens - before <= 4 * (len("step 0 of it") + 8)
    before = ran.tokens
    check(run(engine, chains), [reference(model, chain) for chain in chains])
    assert ran.tokens == before


def test_a_shared_question_is_run_once() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model), batch_tokens=2048)
    layouts = [SCORER.of("q" * 100, (f"answer {n}",)) for n in range(16)]
    check(run(engine, layouts), [reference(model, layout) for layout in layouts])
    assert ran.tokens <= 101 + 16 * 12
    assert engine.prefixes.size == 0


def test_equal_inputs_are_run_once() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model))
    layout = LAYOUTS[0]
    check(run(engine, [layout] * 5), [reference(model, layout)] * 5)
    assert ran.tokens == layout.reads[-1] + 1


def test_batches_keep_to_the_budget() -> None:
    model, base = backbone()
    ran = Counted(base)
    layouts = [SCORER.of("", ("s" * n,)) for n in range(1, 90)]
    run(scheduler(base, head=candidates(model), batch_tokens=200), layouts)
    assert ran.largest <= 200
    exact = sum(layout.reads[-1] + 1 for layout in layouts)
    assert ran.tokens <= exact * 1.05  # sorted by length: little is padded


def test_log_ratio_equals_the_full_softmax() -> None:
    model, base = backbone()
    other, reference_base = backbone(seed=3, hidden_size=48)
    layout_scorer = TinyScorer(offset=-1, incremental=False)
    layouts = [layout_scorer.of(question, steps) for question in QUESTIONS for steps in STEPS]
    engine = scheduler(base, reference_base, head=LogRatioHead(language(model), language(other)))
    with torch.inference_mode():
        for layout, result in zip(layouts, run(engine, layouts), strict=True):
            ids = torch.tensor([layout.token_ids])
            ratio = model(ids).logits[0].log_softmax(-1) - other(ids).logits[0].log_softmax(-1)
            wanted = [float(ratio[read, layout.token_ids[read + 1]]) for read in layout.reads]
            assert numbers(result) == pytest.approx(wanted, abs=2e-5)


# --- calls ---------------------------------------------------------------------------------


def test_no_input_is_answered_without_a_step() -> None:
    model, base = backbone()
    engine = scheduler(base, head=candidates(model))
    engine.add(Scoring([], lambda _: None))
    assert engine.idle()
    assert [event.results for _, event in engine.events if isinstance(event, Scored)] == [()]


def test_a_cancelled_call_is_dropped() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model), batch_tokens=1)
    gone, stays = (Scoring(LAYOUTS[:3], lambda _: None), Scoring(LAYOUTS[4:5], lambda _: None))
    engine.add(gone)
    engine.add(stays)
    assert engine.load() == Load(running=1, waiting=1)
    with torch.inference_mode():
        engine.step()
    assert engine.load() == Load(running=1, waiting=1)
    gone.cancelled = True
    ran.tokens = 0
    (results,) = drain(engine)
    check(results, [reference(model, LAYOUTS[4])])
    assert ran.tokens == LAYOUTS[4].reads[-1] + 1
    assert engine.load() == Load()


def test_callers_are_batched_together() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model), batch_tokens=10_000)
    for layout in LAYOUTS[:4]:
        engine.add(Scoring([layout], lambda _: None))
    with torch.inference_mode():
        engine.step()
    assert engine.idle()
    assert len(engine.events) == 4
    assert ran.tokens > 0


def test_the_end_reaches_every_caller() -> None:
    model, base = backbone()
    engine = scheduler(base, head=candidates(model))
    for layout in LAYOUTS[:3]:
        engine.add(Scoring([layout], lambda _: None))
    over = Unavailable("over")
    engine.fail_all(over)
    assert engine.idle()
    assert [event for _, event in engine.events] == [over] * 3
