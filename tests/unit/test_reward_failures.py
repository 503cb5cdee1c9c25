"""What goes wrong in a batch ends the inputs that it concerns, and no others."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from modelworker_server.errors import BadRequest, NonFiniteScore, Unavailable, WorkerError
from modelworker_server.scoring.batching import Row
from modelworker_server.workers.reward.scorings import Scoring
from tests.reward_engines import (
    LAYOUTS,
    QUESTIONS,
    Counted,
    backbone,
    candidates,
    check,
    reference,
    run,
    scheduler,
)
from tests.reward_support import SCORER, TinyScorer

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
