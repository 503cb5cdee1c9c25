"""What callers of a reward worker see: scores, cancellation, tokens, refusals, the end."""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modelworker_api.rewards import CustomRecipe, Family, Link, Position, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import BadRequest, LoadError, NotReady, Unavailable
from modelworker_server.scoring.batching import Backbone, Row
from modelworker_server.scoring.values import Item, Layout
from modelworker_server.workers.base import BaseModelWorker, Load, Message
from modelworker_server.workers.registry import create
from modelworker_server.workers.reward.worker import RewardModelWorker
from tests.engine_support import config, load, running, save
from tests.reward_support import CANDIDATES, PROCESS, TinyScorer, binder, numbers, rewrite
from tests.support import eventually

Running = tuple[asyncio.Runner, BaseModelWorker]

SCORER = TinyScorer()
LAYOUTS = [SCORER.of(f"Question {n}", ("one", "two" * n)) for n in range(1, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


def serve(folder: Path, scorer: TinyScorer = SCORER, **changes: Any) -> Iterator[Running]:
    settings = config(folder, scoring=PROCESS.model_copy(update=changes))
    with asyncio.Runner() as runner:
        worker = RewardModelWorker(settings, binder(scorer))
        runner.run(worker.load(lambda *_: None))
        yield runner, worker
        runner.run(worker.close())


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Running]:
    yield from serve(folder)


@pytest.fixture
def own(folder: Path) -> Iterator[Running]:
    """A worker that a test may break."""
    yield from serve(folder, max_batch_tokens=1)


def wanted(folder: Path, layouts: Sequence[Layout]) -> list[list[float]]:
    model = load(folder)
    found = []
    with torch.inference_mode():
        for layout in layouts:
            logits = model(torch.tensor([layout.token_ids])).logits[0]
            found.append([float(logits[at, CANDIDATES.token_ids[0]]) for at in layout.reads])
    return found


def close(found: Sequence[object], expected: Sequence[list[float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(other, abs=1e-5, rel=1e-5)


def backbone_of(worker: BaseModelWorker) -> Backbone:
    """The model inside, for a test that breaks it."""
    assert isinstance(worker, RewardModelWorker)
    return worker._ready().backbones[0]


def test_many_callers_get_their_own_scores_in_order(tiny: Running, folder: Path) -> None:
    runner, worker = tiny

    async def ask() -> list[Any]:
        calls = [worker.score(LAYOUTS[n:]) for n in range(4)] + [worker.score([])]
        return list(await asyncio.gather(*calls))

    expected = wanted(folder, LAYOUTS)
    *found, nothing = runner.run(ask())
    assert nothing == []
    for n, results in enumerate(found):
        close(results, expected[n:])


def test_it_says_what_it_is(tiny: Running) -> None:
    _, worker = tiny
    assert worker.scoring == SCORER.info
    assert worker.info.vocab_size == 264
    assert worker.info.dtype == "float32"
    assert worker.info.revision.startswith("sha256:")
    assert worker.alive()
    item = Item(context=(("user", "Q"),), response="abc", spans=((0, 3),))
    assert worker.lay_out(item) == SCORER.lay_out(item)
    assert worker.lay_out_tagged("abc") is None


def test_tokens(tiny: Running) -> None:
    _, worker = tiny
    ids = worker.encode("a b")
    assert ids[0] == 1
    assert worker.decode(ids, skip_special_tokens=True) == "a b"
    assert worker.token_text(ids[-1]) == "b"
    template = worker.conversation_template()
    assert template is not None
    assert worker.count_tokens("a b") == 4
    assert worker.decode(worker.encode_chat([Message("user", "x")])) == "<s><user>x</s><assistant>"


def test_a_token_that_the_model_does_not_have(tiny: Running, folder: Path) -> None:
    runner, worker = tiny
    strange = Layout((1, 8, 264, 4), (3,), LAYOUTS[0].places[:1])
    results = runner.run(worker.score([LAYOUTS[0], strange, LAYOUTS[1]]))
    close(results[::2], wanted(folder, LAYOUTS[:2]))
    assert isinstance(results[1], BadRequest)
    assert "264" in results[1].message


def test_nothing_is_ready_before_it_is_loaded(folder: Path) -> None:
    worker = RewardModelWorker(config(folder, scoring=PROCESS), binder(SCORER))
    assert worker.alive()
    assert worker.load_now() == Load()
    with pytest.raises(NotReady):
        _ = worker.scoring
    with pytest.raises(NotReady):
        _ = worker.info
    with pytest.raises(NotReady):
        worker.encode("x")


def test_loading_is_reported(folder: Path) -> None:
    seen: list[LoadState] = []

    async def start() -> None:
        worker = RewardModelWorker(config(folder, scoring=PROCESS), binder(SCORER))
        await worker.load(lambda state, _: seen.append(state))
        await worker.close()

    asyncio.run(start())
    assert seen == [LoadState.LOADING, LoadState.WARMING]


def test_what_nobody_waits_for_is_not_run(own: Running) -> None:
    runner, worker = own
    backbone = backbone_of(worker)
    started, go_on = asyncio.Event(), threading.Event()
    loop = runner.get_loop()
    run, ran = backbone.run, []

    def slow(rows: Sequence[Row], *, keep: bool) -> Any:
        ran.append(rows)
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(10)
        return run(rows, keep=keep)

    backbone.run = slow  # type: ignore[method-assign]

    async def leave() -> None:
        call = asyncio.create_task(worker.score(LAYOUTS))
        await started.wait()
        assert worker.load_now() == Load(running=1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        await asyncio.to_thread(
            eventually, worker.load_now, until=lambda load: load == Load(), timeout=10
        )

    runner.run(leave())
    assert len(ran) == 1


def test_a_dead_engine_says_so(own: Running) -> None:
    runner, worker = own

    def lost(rows: Sequence[Row], *, keep: bool) -> Any:
        raise torch.AcceleratorError("device lost", 1)

    backbone_of(worker).run = lost  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Unavailable, match="engine died"):
            runner.run(worker.score(LAYOUTS[:1]))
    assert not worker.alive()


def test_closing_ends_the_calls(folder: Path) -> None:
    for runner, worker in serve(folder):
        runner.run(worker.close())
        with pytest.raises(Unavailable, match="shutting down"):
            runner.run(worker.score(LAYOUTS[:1]))


@pytest.mark.parametrize(
    ("scorer", "warned"),
    [
        pytest.param(TinyScorer(), False, id="incremental"),
        pytest.param(TinyScorer(incremental=False), True, id="not-incremental"),
    ],
)
def test_a_cache_without_effect_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture, scorer: TinyScorer, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, logger="modelworker_server"):
        for runner, worker in serve(folder, scorer, cache_tokens=500):
            for _ in range(2):
                close(runner.run(worker.score(LAYOUTS)), wanted(folder, LAYOUTS))
    assert ("cacheTokens 500 has no effect" in caplog.text) is warned


# --- the self-test ---------------------------------------------------------------------------


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    bad = {"model.norm.weight": torch.full((32,), torch.inf)}
    rewrite(folder, add=bad)
    worker = RewardModelWorker(config(folder, scoring=PROCESS), binder(SCORER))
    with pytest.raises(LoadError, match="not a number") as caught:
        asyncio.run(worker.load(lambda *_: None))
    assert caught.value.reason is FailureReason.NON_FINITE_SCORE


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        pytest.param(
            TinyScorer(values=lambda rows: [rows[0][0]]),
            FailureReason.SCORE_SHAPE_MISMATCH,
            id="one-score-for-two-steps",
        ),
        pytest.param(
            TinyScorer(type=ScoreType.OUTCOME),
            FailureReason.SCORE_SHAPE_MISMATCH,
            id="two-scores-for-an-answer",
        ),
        pytest.param(
            TinyScorer(values=lambda rows: [1 / 0 for _ in rows]),
            FailureReason.SCORE_SHAPE_MISMATCH,
            id="a-bug",
        ),
    ],
)
def test_a_recipe_that_gives_no_score_for_each_step_is_refused(
    folder: Path, scorer: TinyScorer, reason: FailureReason
) -> None:
    worker = RewardModelWorker(config(folder, scoring=PROCESS), binder(scorer))
    with pytest.raises(LoadError, match="self-test failed") as caught:
        asyncio.run(worker.load(lambda *_: None))
    assert caught.value.reason is reason


def test_a_limit_that_its_own_example_exceeds_is_told(tmp_path: Path) -> None:
    parts = CustomRecipe(
        text="{question}\n{response}",
        step_tag="\n",
        positive_token="+",
        negative_token="-",
        position=Position.TAG,
        link=Link.SOFTMAX,
    )
    scoring = ScoringConfig(type=ScoreType.PROCESS, family=Family.CUSTOM, custom=parts)
    worker = create("transformers", config(save(tmp_path), scoring=scoring, max_model_len=64))
    with pytest.raises(LoadError, match=r"raise spec\.scoring\.maxInputTokens") as caught:
        asyncio.run(worker.load(lambda *_: None))
    assert caught.value.reason is FailureReason.MODEL_UNSUPPORTED


def test_memory_that_runs_out_in_the_self_test_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: Backbone, rows: Sequence[Row], *, keep: bool) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Backbone, "run", no_room)
    worker = RewardModelWorker(config(folder, scoring=PROCESS), binder(SCORER))
    with pytest.raises(LoadError, match="does not fit into memory") as caught:
        asyncio.run(worker.load(lambda *_: None))
    assert caught.value.reason is FailureReason.INSUFFICIENT_MEMORY


def test_half_precision_passes(folder: Path) -> None:
    scoring = PROCESS.model_copy(update={"cache_tokens": 300})
    worker = RewardModelWorker(
        config(folder, scoring=scoring, dtype="bfloat16"), binder(TinyScorer())
    )

    async def ask() -> list[Any]:
        await worker.load(lambda *_: None)
        results = await worker.score(LAYOUTS)
        await worker.close()
        return results

    results = asyncio.run(ask())
    assert worker.info.dtype == "bfloat16"
    for found, expected in zip(results, wanted(folder, LAYOUTS), strict=True):
        assert numbers(found) == pytest.approx(expected, rel=0.05, abs=0.3)


# --- with a real recipe ------------------------------------------------------------------------


def test_a_custom_recipe_from_the_registry(folder: Path) -> None:
    custom = CustomRecipe(
        text="{question}\n{response}",
        step_tag="<a>",
        positive_token="+",
        negative_token="-",
        position=Position.TAG,
        link=Link.SOFTMAX,
    )
    scoring = ScoringConfig(
        type=ScoreType.PROCESS, family=Family.CUSTOM, custom=custom, cache_tokens=300
    )
    item = Item(context=(("user", "Q"),), response="ab\n\ncd", spans=((0, 2), (4, 6)))
    with running(config(folder, scoring=scoring)) as (runner, worker):
        assert type(worker) is RewardModelWorker
        layout = worker.lay_out(item)
        (result,) = runner.run(worker.score([layout]))
    with torch.inference_mode():
        logits = load(folder)(torch.tensor([layout.token_ids])).logits[0]
    plus, minus = (worker.encode(text, add_special_tokens=False)[0] for text in "+-")
    probability = logits[:, [plus, minus]].softmax(dim=-1)[:, 0]
    expected = [float(probability[layout.reads[place.read]]) for place in layout.places]
    assert numbers(result) == pytest.approx(expected, abs=1e-5)


def test_without_scoring_a_language_model_is_created(folder: Path) -> None:
    assert type(create("transformers", config(folder))).__name__ == "ModelWorker"
