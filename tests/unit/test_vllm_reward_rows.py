"""Which rows are asked of an engine with a prefix cache, and that none of them is lost."""

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelworker_server.errors import Unavailable
from modelworker_server.scoring.values import Row
from modelworker_server.workers.vllm.reward_rows import Rows, prefix_keys

BLOCK = 4
ANSWER = tuple(range(100, 112))
READS = (2, 6, 11)


def true_row(tokens: Sequence[int], read: int) -> Row:
    """A row that depends on every token up to its read, and on no other."""
    return [math.sin(sum((i + 1) * token for i, token in enumerate(tokens[: read + 1])))]


def true_rows(tokens: Sequence[int], reads: Sequence[int]) -> list[Row]:
    return [true_row(tokens, read) for read in reads]


@dataclass
class Engine:
    """An engine that knows blocks of tokens which it computed before, and never a whole input."""

    asked: list[tuple[int, tuple[int, ...], bool]] = field(default_factory=list)
    """Length, reads and whether the cache was read, of each call."""
    computed: int = 0
    """Tokens that were not in the cache."""
    blocks: set[tuple[int, ...]] = field(default_factory=set)
    fails: int = 0
    """Calls that are still going to fail."""
    puts_back: bool = False
    """Whether it tells nothing of an input that it began behind its beginning."""
    gate: asyncio.Event | None = None
    """What calls wait for."""
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def busy(self, calls: int) -> None:
        """Wait until so many calls wait for the gate."""
        for _ in range(calls):
            await self.arrived.acquire()

    async def __call__(
        self, tokens: Sequence[int], reads: Sequence[int], *, cached: bool
    ) -> Mapping[int, Row]:
        self.asked.append((len(tokens), tuple(reads), cached))
        begin = self._known(tokens) if cached else 0
        self.computed += len(tokens) - begin
        self.blocks |= {tuple(tokens[:end]) for end in range(BLOCK, len(tokens) + 1, BLOCK)}
        if self.gate is not None:
            self.arrived.release()
            await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise Unavailable("the engine died")
        if begin and self.puts_back:
            return {}
        return {read: true_row(tokens, read) for read in reads if read >= begin}

    def _known(self, tokens: Sequence[int]) -> int:
        ends = range(BLOCK, len(tokens), BLOCK)
        return max((end for end in ends if tuple(tokens[:end]) in self.blocks), default=0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_a_row_depends_on_the_tokens_up_to_it() -> None:
    one, other = prefix_keys(ANSWER, READS), prefix_keys((*ANSWER[:7], 9, 9, 9, 9, 9), READS)
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert len(set(one)) == len(READS)
    assert prefix_keys(ANSWER, READS[1:]) == one[1:]


def test_nothing_is_run_behind_the_last_read() -> None:
    engine = Engine()
    assert run(Rows(engine).of(ANSWER, READS[:2])) == true_rows(ANSWER, READS[:2])
    assert engine.asked == [(7, READS[:2], True)]


def test_an_answer_that_grows_costs_its_new_tokens() -> None:
    """Each step's row is asked for once; a repeated answer is not asked for at all."""
    engine = Engine()
    rows = Rows(engine)

    async def grow() -> None:
        for count in (1, 2, 3, 3):
            assert await rows.of(ANSWER, READS[:count]) == true_rows(ANSWER, READS[:count])

    run(grow())
    assert engine.asked == [(3, (2,), True), (7, (6,), True), (12, (11,), True)]
    assert engine.computed == 3 + 7 + (12 - 4)


@pytest.mark.parametrize(
    ("limit", "puts_back", "again"),
    [
        pytest.param(1, False, (3, (2,), False), id="its-rows-were-forgotten"),
        pytest.param(99, True, (12, (11,), False), id="the-engine-put-the-input-back"),
    ],
)
def test_what_the_cache_hides_is_asked_for_again(
    limit: int, puts_back: bool, again: tuple[int, tuple[int, ...], bool]
) -> None:
    engine = Engine(puts_back=puts_back)
    rows = Rows(engine, limit=limit)

    async def grow() -> None:
        await rows.of(ANSWER, READS[:2])
        assert await rows.of(ANSWER, READS) == true_rows(ANSWER, READS)

    run(grow())
    assert engine.asked[-1] == again


def test_without_a_prefix_cache_every_input_is_run_whole() -> None:
    engine = Engine()
    rows = Rows(engine, limit=0)

    async def twice() -> None:
        for _ in range(2):
            assert await rows.of(ANSWER, READS) == true_rows(ANSWER, READS)

    run(twice())
    assert engine.asked == [(12, READS, False)] * 2


BRANCHES = tuple((*ANSWER[:7], branch, 0, 0, 0, branch) for branch in range(5))


async def _branches(rows: Rows) -> list[Any]:
    return await asyncio.gather(
        *(rows.of(tokens, READS) for tokens in BRANCHES), return_exceptions=True
    )


def test_branches_that_come_together_share_their_beginning() -> None:
    """The rows of what they share are asked for by one, and the others wait for them."""
    engine = Engine()
    found = run(_branches(Rows(engine)))
    assert found == [true_rows(tokens, READS) for tokens in BRANCHES]
    assert engine.asked == [(12, READS, True), *[(12, (11,), True)] * 4]


def test_branches_outlive_the_one_that_asked() -> None:
    engine = Engine(fails=1)
    first, *others = run(_branches(Rows(engine)))
    assert isinstance(first, Unavailable)
    assert others == [true_rows(tokens, READS) for tokens in BRANCHES[1:]]


def test_branches_outlive_a_caller_that_left() -> None:
    async def leave() -> list[list[Row]]:
        engine = Engine(gate=asyncio.Event())
        assert engine.gate is not None
        rows = Rows(engine)
        calls = [asyncio.create_task(rows.of(tokens, READS)) for tokens in BRANCHES]
        await engine.busy(len(BRANCHES))
        calls[0].cancel()
        engine.gate.set()
        return await asyncio.gather(*calls[1:])

    assert run(leave()) == [true_rows(tokens, READS) for tokens in BRANCHES[1:]]


def test_no_more_rows_are_kept_than_the_limit() -> None:
    engine = Engine()
    rows = Rows(engine, limit=2)

    async def ask(*orders: int) -> None:
        for order in orders:
            await rows.of((order, order), (1,))

    run(ask(1, 2, 1, 3, 1, 2))
    assert [asked[0] for asked in engine.asked] == [2] * 4  # 1, 2, 3, and 2 again


def test_a_row_that_is_not_finite_is_not_kept() -> None:
    asked: list[bool] = []

    async def broken(
        tokens: Sequence[int], reads: Sequence[int], *, cached: bool
    ) -> Mapping[int, Row]:
        asked.append(cached)
        return {read: [math.nan] for read in reads}

    rows = Rows(broken)

    async def twice() -> None:
        for _ in range(2):
            assert math.isnan((await rows.of((1, 2), (1,)))[0][0])

    run(twice())
    assert asked == [True, True]
