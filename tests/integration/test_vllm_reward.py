"""A reward model on vLLM: what is run again and what is not, and what goes wrong."""

import asyncio
import multiprocessing
import os
import shutil
import signal
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from vllm.v1.engine.async_llm import AsyncLLM

from modelworker_server.errors import (
    BadRequest,
    ContextTooLong,
    NonFiniteScore,
    NotReady,
    Unavailable,
)
from modelworker_server.scoring import recipes
from modelworker_server.scoring.values import Layout, Scores
from modelworker_server.workers.vllm.engine import start
from modelworker_server.workers.vllm.reward import VLLMRewardWorker
from modelworker_server.workers.vllm.stats import EngineStats
from tests.golden_support import PROBLEMS, Golden, Problem, difference, item, values
from tests.golden_tokenizers import Files
from tests.golden_vllm import CASES, ENGINE, golden_for, settings_for

BLOCK = 32
LIMIT = 512
MEMORY = 2**22
"""Of the KV cache: 128 blocks, so that the tests soon use each of them again."""
BROKEN = " nonsense"
"""Its token has no embedding that is a number."""


class Counting(EngineStats):
    """Counts the tokens that the engine computes, and those that it need not."""

    def __init__(self) -> None:
        super().__init__()
        self.computed = self.cached = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, *rest: Any, **more: Any) -> None:
        super().record(scheduler_stats, iteration_stats, *rest, **more)
        if iteration_stats is not None:
            self.computed += iteration_stats.prompt_token_stats.computed
            self.cached += iteration_stats.prompt_token_stats.cached_tokens


@dataclass
class Running:
    """A worker, its event loop, and what its engine counts."""

    golden: Golden
    worker: VLLMRewardWorker
    runner: asyncio.Runner
    counts: Counting

    def lay(self, problem: Problem) -> Layout:
        return self.worker.lay_out(item(self.worker, problem))

    def results(self, *layouts: Layout) -> list[Any]:
        return self.runner.run(self.worker.score(layouts))

    def costs(self, problem: Problem) -> tuple[int, int]:
        """Tokens that the engine computed for an answer, and those that it had."""
        before = self.counts.computed, self.counts.cached
        check(self, [problem])
        return self.counts.computed - before[0], self.counts.cached - before[1]


def check(running: Running, problems: Sequence[Problem]) -> None:
    found = running.results(*map(running.lay, problems))
    assert all(isinstance(one, Scores) for one in found), found
    tolerance = running.golden.case.tolerance
    assert difference(values(found), running.golden.alone(problems)) <= tolerance


@pytest.fixture(scope="module")
def running(
    tokenizer_files: Callable[[str], Files], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    case = CASES["TRLPRM"]
    files = tokenizer_files(case.tokenizer)
    folder = tmp_path_factory.mktemp("reward")
    golden = golden_for(case, files, folder / "sound")
    (broken,) = files.ids(BROKEN)
    golden.model.base.get_input_embeddings().weight[broken] = float("nan")
    case.save(folder / "model", files, golden.model)
    counts = Counting()

    def counted(arguments: Namespace, _: EngineStats) -> AsyncLLM:
        return start(arguments, counts)

    settings = settings_for(
        replace(golden, folder=folder),
        max_model_len=LIMIT,
        scoring=golden.scoring(max_batch_tokens=2 * BLOCK),  # long inputs are run part by part
        vllm=ENGINE.model_copy(update={"kv_cache_memory_bytes": MEMORY}),
    )
    worker = VLLMRewardWorker(settings, recipes.bind, start=counted)
    with pytest.raises(NotReady):
        _ = worker.scoring
    with asyncio.Runner() as runner:
        runner.run(worker.load(lambda *_: None))
        try:
            yield Running(golden, worker, runner, counts)
        finally:
            runner.run(worker.close())
    shutil.rmtree(folder)


def long_answer(name: str, steps: int) -> Problem:
    text = "We add the two numbers and compare the sum with the one that was asked for"
    return Problem(f"{name}: is it so?", tuple(f"Step {i}: {text} {i}." for i in range(steps)))


def test_what_is_told_of_it(running: Running) -> None:
    info, scoring = running.worker.info, running.worker.scoring
    assert (info.dtype, info.max_model_len) == ("float32", LIMIT)
    assert (scoring.family, scoring.compared) == (running.golden.case.family, True)
    assert running.worker.alive()
    assert running.worker.load_now().running == 0


def test_a_step_more_costs_its_own_tokens(running: Running) -> None:
    """But for the last, unfinished block of what is known; an answer again costs nothing."""
    whole = long_answer("growing", 8)
    tokens, cached = 0, 0
    for count in range(1, 9):
        grown = Problem(whole.question, whole.steps[:count])
        length = running.lay(grown).reads[-1] + 1
        computed, had = running.costs(grown)
        assert computed + had == length
        assert computed <= length - tokens + BLOCK
        tokens, cached = length, cached + had
    assert cached > 0
    assert running.costs(whole) == (0, 0)


def test_branches_cost_their_common_beginning_once(running: Running) -> None:
    """Also if nothing of it was known, and all are asked for at the same time."""
    stem = long_answer("branching", 6)
    branches = [Problem(stem.question, (*stem.steps, f"So it is {i}.")) for i in range(8)]
    before = running.counts.computed
    check(running, branches)
    common = running.lay(stem).reads[-1] + 1
    own = running.lay(branches[0]).reads[-1] + 1 - common
    assert running.counts.computed - before <= common + len(branches) * (own + BLOCK)


def test_equal_inputs_are_run_once(running: Running) -> None:
    layout = running.lay(long_answer("equal", 3))
    before = running.counts.computed
    first, *others = running.results(*[layout] * 5)
    assert others == [first] * 4
    assert running.counts.computed - before == layout.reads[-1] + 1


def test_many_at_once(running: Running) -> None:
    check(running, [long_answer(f"one of many {i}", 1 + i % 5) for i in range(60)])


def test_what_is_no_number_fails_alone(running: Running) -> None:
    """Neither what runs beside it nor what gets its memory afterwards is touched."""
    sound = PROBLEMS[0]
    for turn in range(3):
        broken = Problem(f"Turn {turn}", ("This is fine.", f"This is{BROKEN}.", "And so on."))
        one, other = running.results(running.lay(broken), running.lay(sound))
        assert isinstance(one, NonFiniteScore)
        assert isinstance(other, Scores)
        check(running, [long_answer(f"after {turn} {i}", 8) for i in range(30)])


def test_an_input_that_is_too_long_is_refused(running: Running) -> None:
    with pytest.raises(ContextTooLong):
        running.lay(long_answer("too long", 60))


def test_an_unknown_token_fails_alone(running: Running) -> None:
    sound = running.lay(PROBLEMS[0])
    size = running.worker.info.vocab_size
    unknown = Layout((size, *sound.token_ids[1:]), sound.reads, sound.places)
    error, scores = running.results(unknown, sound)
    assert isinstance(error, BadRequest)
    assert isinstance(scores, Scores)


@asynccontextmanager
async def interrupted(running: Running, layouts: Sequence[Layout]) -> AsyncIterator[Any]:
    """A call that the engine has, and cannot work at, as its process is stopped."""
    (engine,) = multiprocessing.active_children()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    call = asyncio.create_task(running.worker.score(layouts))
    async with asyncio.timeout(30):
        while running.worker.load_now().running < len(layouts):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    yield engine, call


def test_a_caller_that_leaves_takes_its_inputs_along(running: Running) -> None:
    layouts = [running.lay(long_answer(f"left {i}", 9)) for i in range(64)]

    async def leave() -> None:
        async with interrupted(running, layouts) as (engine, call):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            os.kill(engine.pid, signal.SIGCONT)

    running.runner.run(leave())
    load = running.worker.load_now()
    assert (load.running, load.waiting) == (0, 0)
    check(running, PROBLEMS)


def test_calls_end_when_the_engine_dies(running: Running) -> None:
    """The last test, as there is no engine after it."""
    layouts = [running.lay(long_answer(f"lost {i}", 9)) for i in range(64)]

    async def kill() -> None:
        async with interrupted(running, layouts) as (engine, call):
            engine.kill()
            with pytest.raises(Unavailable):
                await call

    running.runner.run(kill())
    assert not running.worker.alive()
    with pytest.raises(Unavailable):
        running.results(layouts[0])
