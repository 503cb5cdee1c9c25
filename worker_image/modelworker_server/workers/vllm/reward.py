"""The worker that runs a reward model on vLLM."""

import asyncio
from argparse import Namespace
from collections.abc import Callable, Sequence

from vllm.v1.engine.async_llm import AsyncLLM

from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import LoadError, Unavailable, WorkerError
from modelworker_server.scoring.values import Item, Layout, Row, Scorer, ScoringInfo, Templated
from modelworker_server.workers.base import ModelConfig, Progress
from modelworker_server.workers.local import on_the_loop
from modelworker_server.workers.reward.loading import Bind, Bound, Report, bind_recipe, explained
from modelworker_server.workers.reward.scorings import combined, unknown_token
from modelworker_server.workers.reward.selftest import self_test
from modelworker_server.workers.sequences import Result
from modelworker_server.workers.tokenized import not_ready
from modelworker_server.workers.vllm.engine import parse, start, stop
from modelworker_server.workers.vllm.failures import ENGINE_DIED
from modelworker_server.workers.vllm.reward_engine import EngineRows
from modelworker_server.workers.vllm.reward_flags import (
    engine_flags,
    require_untouched,
    require_usable,
)
from modelworker_server.workers.vllm.reward_heads import EngineHead, engine_head
from modelworker_server.workers.vllm.reward_rows import KNOWN_ROWS, Rows
from modelworker_server.workers.vllm.running import EngineWorker
from modelworker_server.workers.vllm.stats import EngineStats

Start = Callable[[Namespace, EngineStats], AsyncLLM]
"""Starts an engine by vLLM's parsed arguments; raises `LoadError` where it does not start."""


class VLLMRewardWorker(EngineWorker):
    """A recipe's inputs on vLLM's engine, with the same scores as on transformers.

    The recipe lays an input out in tokens, the engine gives the head's numbers at the tokens
    that are read, and the recipe makes scores of them.

    Args:
        config: what to load; its `scoring` is given.
        bind: binds the recipe; see `recipes.bind`.
        start: starts the engine.
    """

    def __init__(self, config: ModelConfig, bind: Bind, *, start: Start = start) -> None:
        super().__init__(config)
        self._bind = bind
        self._start = start
        self._bound: Bound | None = None
        self._rows: Rows | None = None

    async def load(self, progress: Progress) -> None:
        """Fetch the model, start the engine, and test that it scores.

        `progress` is called on the event loop.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """
        require_usable(self._config)
        report = on_the_loop(progress)
        bound = await asyncio.to_thread(_bind_recipe, self._config, report, self._bind)
        head = engine_head(bound, tensor_parallel=self._config.vllm.tensor_parallel_size)
        arguments = parse(engine_flags(self._config, bound, head))
        require_untouched(self._config, head, arguments)
        self._engine = await asyncio.to_thread(self._start, arguments, self._stats)
        progress(LoadState.WARMING, None)
        try:
            await self._begin(self._engine, bound, head)
        except BaseException:
            stop(self._engine)
            raise

    async def _begin(self, engine: AsyncLLM, bound: Bound, head: EngineHead) -> None:
        _check_candidates(engine, head)
        ask = EngineRows(engine, cap=head.cap)
        limit = KNOWN_ROWS if self._config.vllm.enable_prefix_caching else 0
        info = self._info_of(engine, bound.source.revision)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(_test, bound.scorer, ask, loop, limit=limit, dtype=info.dtype)
        except LoadError as error:
            if engine.errored:
                raise LoadError(
                    FailureReason.LOAD_FAILED,
                    "the engine died in the self-test; the worker's log says why",
                ) from error
            raise
        self._rows = Rows(ask, limit=limit)
        self._bound, self._tokens, self._info = bound, bound.tokens, info

    # --- rewards ---------------------------------------------------------------------

    @property
    def scoring(self) -> ScoringInfo:
        """How this worker scores. Raises `NotReady` before `load` is done."""
        return self._scorer().info

    def lay_out(self, item: Item | Templated) -> Layout:
        """Tokens and positions of one input; see `Scorer.lay_out`."""
        return self._scorer().lay_out(item)

    def lay_out_tagged(self, text: str) -> Layout | None:
        """The layout of a text with the recipe's tags in it; see `Scorer.lay_out_tagged`."""
        return self._scorer().lay_out_tagged(text)

    async def score(self, layouts: Sequence[Layout]) -> list[Result]:
        """The scores of each input, or the error of that input alone, in order.

        Raises:
            Unavailable: the engine ended before all were scored.
        """
        if self._rows is None:
            raise not_ready()
        limit = self.info.vocab_size
        results = {
            index: error
            for index, layout in enumerate(layouts)
            if (error := unknown_token(layout, limit)) is not None
        }
        taken = [layout for index, layout in enumerate(layouts) if index not in results]
        scored = iter(await score_all(self._scorer(), self._rows, taken))
        answers = [results.get(index) or next(scored) for index in range(len(layouts))]
        if not self.alive() and any(isinstance(answer, Unavailable) for answer in answers):
            raise Unavailable(ENGINE_DIED)
        return answers

    def _scorer(self) -> Scorer:
        if self._bound is None:
            raise not_ready()
        return self._bound.scorer


async def score_all(scorer: Scorer, rows: Rows, layouts: Sequence[Layout]) -> list[Result]:
    """The scores of each input, or the error of that input alone, in order.

    Equal inputs are run once. Cancelling it takes back what is still being run.
    """

    async def run(tokens: Sequence[int], reads: Sequence[int]) -> list[Row] | WorkerError:
        try:
            return await rows.of(tokens, reads)
        except WorkerError as error:
            return error

    keys = [(layout.token_ids, layout.reads) for layout in layouts]
    inputs = list(dict.fromkeys(keys))
    outcomes = await asyncio.gather(*(run(tokens, reads) for tokens, reads in inputs))
    found = dict(zip(inputs, outcomes, strict=True))
    return [
        outcome
        if isinstance(outcome := found[key], WorkerError)
        else combined(scorer, layout, outcome)
        for key, layout in zip(keys, layouts, strict=True)
    ]


def _bind_recipe(config: ModelConfig, report: Report, bind: Bind) -> Bound:
    with explained():
        return bind_recipe(config, report, bind)


def _check_candidates(engine: AsyncLLM, head: EngineHead) -> None:
    """Check that vLLM found the rows of the head by the ids that the recipe means."""
    names = list(head.candidates)
    found = engine.get_tokenizer().convert_tokens_to_ids(names) if names else []
    if found != list(head.candidates.values()):
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"vLLM's tokenizer has the tokens {dict(head.candidates)} at {found}; use backend "
            "Transformers",
        )


def _test(
    scorer: Scorer,
    ask: EngineRows,
    loop: asyncio.AbstractEventLoop,
    *,
    limit: int,
    dtype: str,
) -> None:
    """Run the self-test in a thread, the engine's calls in its event loop."""

    def run(rows: Rows, layouts: Sequence[Layout]) -> list[Result]:
        return asyncio.run_coroutine_threadsafe(score_all(scorer, rows, layouts), loop).result()

    def score(layouts: Sequence[Layout]) -> list[Result]:
        return run(Rows(ask, limit=0), layouts)

    def extend(beginning: Layout, whole: Layout) -> Result:
        rows = Rows(ask, limit=limit)
        run(rows, [beginning])
        return run(rows, [whole])[0]

    self_test(scorer, score, extend if limit else None, dtype=dtype)
