"""One input scores the same alone, in any batch, behind a shared prefix and incrementally."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from modelworker_server.errors import BadRequest, NonFiniteScore, Unavailable, WorkerError
from modelworker_server.scoring.batching import Backbone, Output, Row
from modelworker_server.scoring.values import Layout
from modelworker_server.workers.base import Load
from modelworker_server.workers.heads import LanguageHead, LinearHead, LogRatioHead, ReadHead
from modelworker_server.workers.reward_scheduler import RewardScheduler
from modelworker_server.workers.scorings import Scoring
from modelworker_server.workers.sequences import Result, Scored
from tests.engine_support import KINDS, random_model
from tests.reward_support import CANDIDATES, TinyScorer, numbers

SCORER = TinyScorer()
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


# --- memory --------------------------------------------------------------------------------


def out_of_memory_above(tokens: int) -> Callable[[Sequence[Row]], None]:
    def fail(rows: Sequence[Row]) -> None:
        if len(rows) * max(len(row.tokens) for row in rows) > tokens:
            raise torch.OutOfMemoryError("no room")

    return fail


@pytest.mark.parametrize("cache_tokens", [0, 5000], ids=["plain", "kept"])
def test_out_of_memory_halves_the_batch_for_good(cache_tokens: int) -> None:
    model, base = backbone()
    ran = Counted(base)
    ran.fail = out_of_memory_above(250)
    engine = scheduler(
        base, head=candidates(model), batch_tokens=100_000, cache_tokens=cache_tokens
    )
    check(run(engine, LAYOUTS), [reference(model, layout) for layout in LAYOUTS])
    assert engine.batch_tokens < 1000
    seen = engine.batch_tokens
    check(run(engine, LAYOUTS), [reference(model, layout) for layout in LAYOUTS])
    assert engine.batch_tokens == seen


def test_an_input_that_does_not_fit_alone_fails_alone() -> None:
    model, base = backbone()
    ran = Counted(base)
    ran.fail = out_of_memory_above(100)
    engine = scheduler(base, head=candidates(model))
    large = SCORER.of("long", ("x" * 200,))
    results = run(engine, [LAYOUTS[0], large, LAYOUTS[1]])
    check(results[::2], [reference(model, layout) for layout in LAYOUTS[:2]])
    assert isinstance(results[1], BadRequest)
    assert "206 tokens" in results[1].message


def test_what_is_kept_is_given_up_before_an_input_fails() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model), cache_tokens=5000)
    run(engine, LAYOUTS)
    ran.fail = lambda rows: _no_room() if engine.prefixes.size else None
    layout = SCORER.of("Something else entirely", ("now",))
    check(run(engine, [layout]), [reference(model, layout)])


def _no_room() -> None:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize("limit", [0, 40, 150, 10_000], ids=str)
def test_the_cache_keeps_to_its_bound(limit: int) -> None:
    model, base = backbone()
    engine = scheduler(base, head=candidates(model), cache_tokens=limit)
    for layout in LAYOUTS * 2:
        check(run(engine, [layout]), [reference(model, layout)])
        assert engine.prefixes.size <= limit


# --- what goes wrong -----------------------------------------------------------------------


def test_one_input_that_is_not_a_number_fails_alone() -> None:
    model, base = backbone()
    bad = 8 + ord("!")
    with torch.no_grad():
        model.base_model.embed_tokens.weight[bad] = torch.nan
    engine = scheduler(base, head=candidates(model), cache_tokens=1000)
    broken = SCORER.of(QUESTIONS[0], ("fine", "not fine!"))
    results = run(engine, [LAYOUTS[0], broken, LAYOUTS[1]])
    check(results[::2], [reference(model, layout) for layout in LAYOUTS[:2]])
    assert isinstance(results[1], NonFiniteScore)


def test_a_failing_model_fails_the_batch_and_nothing_else() -> None:
    model, base = backbone()
    ran = Counted(base)
    engine = scheduler(base, head=candidates(model))

    def fail(rows: Sequence[Row]) -> None:
        raise RuntimeError("a kernel is missing")

    ran.fail = fail
    (result,) = run(engine, LAYOUTS[:1])
    assert isinstance(result, Unavailable)
    assert "a kernel is missing" in result.message
    ran.fail = lambda rows: None
    check(run(engine, LAYOUTS[:1]), [reference(model, LAYOUTS[0])])


def test_a_lost_device_ends_the_engine() -> None:
    model, base = backbone()
    ran = Counted(base)

    def fail(rows: Sequence[Row]) -> None:
        raise torch.AcceleratorError("device lost", 1)

    ran.fail = fail
    engine = scheduler(base, head=candidates(model))
    engine.add(Scoring(LAYOUTS[:1], lambda _: None))
    with pytest.raises(torch.AcceleratorError):
        engine.step()


def test_a_bug_in_a_recipe_fails_its_input() -> None:
    model, base = backbone()

    def broken(rows: Any) -> list[float]:
        raise ValueError("secret text")

    engine = scheduler(base, head=candidates(model), scorer=TinyScorer(values=broken))
    (result,) = run(engine, LAYOUTS[:1])
    assert isinstance(result, WorkerError)
    assert "ValueError" in result.message
    assert "secret" not in result.message


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
