"""The worker that runs a reward model on transformers."""

import asyncio
import logging
from collections.abc import Sequence

import torch

from modelworker_api.wire import LoadState
from modelworker_server.errors import LoadError, WorkerError
from modelworker_server.scoring.values import (
    Item,
    Layout,
    Scorer,
    Scores,
    ScoringInfo,
    Templated,
)
from modelworker_server.workers.base import ModelConfig, Progress
from modelworker_server.workers.engine import Engine
from modelworker_server.workers.loading import load_failure
from modelworker_server.workers.local import LocalWorker, on_the_loop
from modelworker_server.workers.reward.loading import Bind, LoadedReward, load_reward
from modelworker_server.workers.reward.scheduler import BATCH_TOKENS, RewardScheduler
from modelworker_server.workers.reward.scorings import Scoring, unknown_token
from modelworker_server.workers.reward.selftest import self_test
from modelworker_server.workers.runner import out_of_memory
from modelworker_server.workers.sequences import Result, Scored
from modelworker_server.workers.tokenized import not_ready

_log = logging.getLogger(__name__)


class RewardModelWorker(LocalWorker):
    """Inputs of many callers scored together.

    Args:
        config: what to load; its `scoring` is given.
        bind: binds the recipe; see `recipes.bind`.
    """

    def __init__(self, config: ModelConfig, bind: Bind) -> None:
        super().__init__(config)
        self._bind = bind
        self._loaded: LoadedReward | None = None

    async def load(self, progress: Progress) -> None:
        """Fetch and load the model, and test that it scores.

        `progress` is called on the event loop.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """
        report = on_the_loop(progress)
        loaded = await asyncio.to_thread(load_reward, self._config, report, self._bind)
        progress(LoadState.WARMING, None)
        cache_tokens = _cache_tokens(self._config, loaded.scorer)
        await asyncio.to_thread(_test, loaded, self._config, cache_tokens)
        scheduler = _scheduler(loaded, self._config, cache_tokens)
        self._engine = Engine(scheduler, asyncio.get_running_loop().call_soon_threadsafe)
        self._engine.start()
        self._loaded, self._tokens = loaded, loaded.tokens
        self._info = self._info_of(loaded)

    # --- rewards ---------------------------------------------------------------------

    @property
    def scoring(self) -> ScoringInfo:
        """How this worker scores. Raises `NotReady` before `load` is done."""
        return self._ready().scorer.info

    def lay_out(self, item: Item | Templated) -> Layout:
        """Tokens and positions of one input; see `Scorer.lay_out`."""
        return self._ready().scorer.lay_out(item)

    def lay_out_tagged(self, text: str) -> Layout | None:
        """The layout of a text with the recipe's tags in it; see `Scorer.lay_out_tagged`."""
        return self._ready().scorer.lay_out_tagged(text)

    async def score(self, layouts: Sequence[Layout]) -> list[Scores | WorkerError]:
        """The scores of each input, or the error of that input alone, in order.

        Raises:
            Unavailable: the engine ended before all were scored.
        """
        limit = self._ready().vocab_size
        refused = {
            index: error
            for index, layout in enumerate(layouts)
            if (error := unknown_token(layout, limit)) is not None
        }
        taken = [layout for index, layout in enumerate(layouts) if index not in refused]
        scored = iter(await self._score(taken))
        return [refused.get(index) or next(scored) for index in range(len(layouts))]

    async def _score(self, layouts: Sequence[Layout]) -> tuple[Result, ...]:
        delivered = await self._result(lambda deliver: Scoring(layouts, deliver))
        assert isinstance(delivered, Scored)  # noqa: S101 - what a Scoring delivers
        return delivered.results

    def _ready(self) -> LoadedReward:
        if self._loaded is None:
            raise not_ready()
        return self._loaded


def _cache_tokens(config: ModelConfig, scorer: Scorer) -> int:
    """Tokens to keep for later requests; none where a row looks beyond its read."""
    wanted = config.scoring.cache_tokens if config.scoring else 0
    if wanted and not scorer.incremental:
        _log.warning(
            "cacheTokens %d has no effect: a score of %s depends on what follows it",
            wanted,
            scorer.info.family,
        )
        return 0
    return wanted


def _scheduler(loaded: LoadedReward, config: ModelConfig, cache_tokens: int) -> RewardScheduler:
    wanted = config.scoring.max_batch_tokens if config.scoring else None
    return RewardScheduler(
        loaded.backbones,
        loaded.head,
        loaded.scorer,
        batch_tokens=wanted or BATCH_TOKENS[loaded.backbones[0].device.type],
        cache_tokens=cache_tokens,
    )


def _test(loaded: LoadedReward, config: ModelConfig, cache_tokens: int) -> None:
    """Run the self-test; there is no engine yet, so the model is this thread's."""

    def score(layouts: Sequence[Layout]) -> Sequence[Result]:
        return _run(_scheduler(loaded, config, cache_tokens=0), layouts)

    def extend(beginning: Layout, whole: Layout) -> Result:
        scheduler = _scheduler(loaded, config, cache_tokens)
        _run(scheduler, [beginning])
        return _run(scheduler, [whole])[0]

    try:
        self_test(loaded.scorer, score, extend if cache_tokens else None, dtype=loaded.dtype)
    except LoadError as error:
        cause = error.__cause__ and error.__cause__.__cause__
        if cause is not None and out_of_memory(cause):
            raise load_failure(cause) from cause
        raise
    except RuntimeError as error:  # the device is lost
        raise load_failure(error) from error


def _run(scheduler: RewardScheduler, layouts: Sequence[Layout]) -> Sequence[Result]:
    """Score inputs in this thread."""
    scheduler.add(Scoring(layouts, lambda _: None))
    with torch.inference_mode():
        while not scheduler.idle():
            scheduler.step()
    ((_, delivered),) = scheduler.events
    scheduler.events = []
    assert isinstance(delivered, Scored)  # noqa: S101 - what a Scoring delivers
    return delivered.results
