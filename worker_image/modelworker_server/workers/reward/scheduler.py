"""Which inputs of which requests a reward model runs next, and what becomes of them."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch

from modelworker_server.errors import BadRequest, Unavailable, WorkerError
from modelworker_server.scoring.batching import Backbone, Output, Row, cost_of, plan
from modelworker_server.scoring.values import Row as Numbers
from modelworker_server.scoring.values import Scorer
from modelworker_server.workers.base import Load
from modelworker_server.workers.reward.heads import ReadHead
from modelworker_server.workers.reward.prefixes import Known, Prefixes, Segment
from modelworker_server.workers.reward.scorings import ScoreJob, Scoring, Shared, combined
from modelworker_server.workers.runner import one_line, out_of_memory
from modelworker_server.workers.sequences import Call, Event

_log = logging.getLogger(__name__)

BATCH_TOKENS: Final = {"cpu": 1024, "cuda": 16384}
"""Tokens of one forward pass by device. With SmolLM2-135M in float32 on CPU cores a token costs
the same from 256 to 1,024 tokens, within 4 %, and more above; two cores are best used by 1,024."""
_WORTH: Final = 16
"""A shared beginning is run by itself if that saves this part of a batch: a pass has a price."""
_SHORTEST: Final = 16
"""Known tokens below this are run again: with a prefix, attention needs a mask."""


class RewardScheduler:
    """All inputs that wait for one reward model. Used by one thread.

    Args:
        backbones: the transformer; of an implicit reward also the reference's.
        head: what reads their hidden states.
        scorer: what makes scores of its numbers.
        batch_tokens: tokens of one forward pass, padding included.
        cache_tokens: tokens of finished inputs whose keys, values and rows are kept for later
            ones; 0 keeps none.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        head: ReadHead,
        scorer: Scorer,
        *,
        batch_tokens: int,
        cache_tokens: int,
    ) -> None:
        self.events: list[Event] = []
        """What callers are to get; emptied by the owner."""
        self.prefixes = Prefixes(cache_tokens)
        """What is known of earlier inputs, and of what waiting ones share."""
        self.batch_tokens = batch_tokens
        """The present limit: it shrinks when memory runs out."""
        self._backbones = tuple(backbones)
        self._head = head
        self._scorer = scorer
        self._keeps = cache_tokens > 0
        self._waiting: list[ScoreJob] = []
        self._shared: dict[tuple[int, ...], Shared] = {}

    def add(self, call: Call) -> None:
        """Take a call in; one without inputs is answered at once."""
        assert isinstance(call, Scoring)  # noqa: S101 - what this worker's callers submit
        for job in call.jobs():
            self._waiting.append(job)
            if job.leading:
                job.shared = self._shared.setdefault(job.leading, Shared(job.leading))
                job.shared.waiting += 1
        self._finish(call)

    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting

    def load(self) -> Load:
        """Requests that have begun, or begin with the next batch as the oldest does, and others."""
        calls = list({id(job.call): job.call for job in self._waiting}.values())
        running = sum(call.begun or call is calls[0] for call in calls)
        return Load(running=running, waiting=len(calls) - running)

    def step(self) -> None:
        """Run one batch. Raises only what leaves the device unusable."""
        self._remove([job for job in self._waiting if job.call.cancelled])
        if not self._waiting:
            self.prefixes.trim()
            return
        self._look()
        batch = plan(self._waiting, self.batch_tokens)
        for job in batch:
            job.call.begun = True
        try:
            rows = self._run(batch)
        except Exception as error:
            self._recover(error, batch)
            return
        self._remove(batch)
        for job, numbers in zip(batch, rows, strict=True):
            self._settle(job, numbers)
        self.prefixes.trim(shared.tokens for shared in self._shared.values() if shared.apart)

    def fail_all(self, error: Exception) -> None:
        """End every call with an error."""
        for call in {id(job.call): job.call for job in self._waiting}.values():
            call.finished = True
            self.events.append((call, error))
        self._waiting = []

    # --- one batch -----------------------------------------------------------------------

    def _look(self) -> None:
        """See which inputs share a beginning, and how much of each is known."""
        for shared in self._shared.values():
            saved = (shared.waiting - 1) * len(shared.tokens)
            pays = len(shared.tokens) >= _SHORTEST and saved * _WORTH >= self.batch_tokens
            shared.apart = shared.apart or pays
        if self._keeps:
            for job in self._waiting:
                job.known = self._start(job, self.prefixes.find(job.tokens))

    def _start(self, job: ScoreJob, known: Known) -> int:
        """The first token to run: what is not known, or a read that has no row yet."""
        missing = (read for read in job.reads if read >= known.length or read not in known.rows)
        start = min(next(missing, len(job.tokens)), known.length)
        return start if start >= min(_SHORTEST, len(job.tokens)) else 0

    def _run(self, batch: Sequence[ScoreJob]) -> list[list[Numbers]]:
        """The rows of each input, in the order of its reads."""
        self._run_shared(batch)
        found = [self.prefixes.find(job.tokens) for job in batch]
        starts = [self._start(job, known) for job, known in zip(batch, found, strict=True)]
        fresh = [
            (job, start, known.first(start))
            for job, known, start in zip(batch, found, starts, strict=True)
            if start < len(job.tokens)
        ]
        new = iter(self._forward(fresh) if fresh else [])
        rows: list[list[Numbers]] = []
        for job, known, start in zip(batch, found, starts, strict=True):
            numbers: Mapping[int, Numbers] = known.rows
            if start < len(job.tokens):
                numbers = {**numbers, **next(new)}
            rows.append([numbers[read] for read in job.reads])
        return rows

    def _run_shared(self, batch: Sequence[ScoreJob]) -> None:
        """Run what inputs of the batch share and nobody has run yet."""
        groups = dict.fromkeys(job.group for job in batch if job.group is not None)
        todo: list[tuple[tuple[int, ...], int, tuple[Segment, ...]]] = []
        for tokens in (group.tokens for group in groups):
            known = self.prefixes.find(tokens)
            start = known.length if known.length >= _SHORTEST else 0
            if start < len(tokens):
                todo.append((tokens, start, known.first(start)))
        longest = max((len(tokens) for tokens, _, _ in todo), default=1)
        size = max(1, self.batch_tokens // longest)
        for begin in range(0, len(todo), size):
            part = todo[begin : begin + size]
            rows = [(tokens[start:], (), prefix) for tokens, start, prefix in part]
            outputs = self._outputs(rows, keep=True)
            for index, (tokens, start, _) in enumerate(part):
                segment = tuple(output.kept[index] for output in outputs)
                self.prefixes.add(tokens, start, segment, {})

    def _forward(
        self, fresh: Sequence[tuple[ScoreJob, int, tuple[Segment, ...]]]
    ) -> list[dict[int, Numbers]]:
        """Run inputs from their first token that is not known; the rows by position."""
        reads = [[read for read in job.reads if read >= start] for job, start, _ in fresh]
        rows = [
            (job.tokens[start:], [read - start for read in mine], prefix)
            for (job, start, prefix), mine in zip(fresh, reads, strict=True)
        ]
        outputs = self._outputs(rows, keep=self._keeps)
        following = [
            after
            for job, start, _ in fresh
            for read, after in zip(job.reads, job.next_ids, strict=True)
            if read >= start
        ]
        states = [output.states for output in outputs]
        next_ids = torch.tensor(following, device=states[0].device)
        numbers = iter(self._head(states, next_ids).tolist())
        found = [{read: next(numbers) for read in mine} for mine in reads]
        if self._keeps:
            for index, (job, start, _) in enumerate(fresh):
                if _finite(found[index]):
                    segment = tuple(output.kept[index] for output in outputs)
                    self.prefixes.add(job.tokens, start, segment, found[index])
        return found

    def _outputs(
        self,
        rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[Segment]]],
        *,
        keep: bool,
    ) -> list[Output]:
        """One forward pass of each model over rows of tokens, reads and prefix."""
        return [
            backbone.run(
                [
                    Row(tokens, reads, [segment[number] for segment in prefix])
                    for tokens, reads, prefix in rows
                ],
                keep=keep,
            )
            for number, backbone in enumerate(self._backbones)
        ]

    # --- results -------------------------------------------------------------------------

    def _settle(self, job: ScoreJob, numbers: Sequence[Numbers]) -> None:
        for index in job.indices:
            layout = job.call.layouts[index]
            job.call.results[index] = combined(self._scorer, layout, numbers)
        self._finish(job.call)

    def _fail(self, jobs: Sequence[ScoreJob], error: WorkerError) -> None:
        """End these inputs with an error, and no others."""
        self._remove(jobs)
        for job in jobs:
            for index in job.indices:
                job.call.results[index] = error
            self._finish(job.call)

    def _finish(self, call: Scoring) -> None:
        if not call.finished and (result := call.result()) is not None:
            call.finished = True
            self.events.append((call, result))

    def _remove(self, jobs: Sequence[ScoreJob]) -> None:
        gone = {id(job) for job in jobs}
        self._waiting = [job for job in self._waiting if id(job) not in gone]
        for job in jobs:
            if job.shared is not None:
                job.shared.waiting -= 1
                if not job.shared.waiting:
                    del self._shared[job.leading]

    # --- when a batch fails ----------------------------------------------------------------

    def _recover(self, error: Exception, batch: Sequence[ScoreJob]) -> None:
        """Go on after an error: with less at a time if memory ran out, else without the batch."""
        if isinstance(error, torch.AcceleratorError):
            raise error  # the device context is lost; only a new process gets another one
        if not out_of_memory(error):
            _log.error("a batch failed", exc_info=error)
            self._fail(batch, _failed(error))
            return
        forgot = self.prefixes.clear()
        if self._backbones[0].device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) > 1:
            self.batch_tokens = max(1, min(self.batch_tokens, cost_of(batch)) // 2)
            _log.warning("out of memory: going on with %d tokens at most", self.batch_tokens)
        elif not forgot or batch[0].alone:
            self._fail(batch, _too_large(batch[0], error))
        batch[0].alone = len(batch) == 1


def _failed(error: Exception) -> Unavailable:
    answer = Unavailable(
        f"the model failed on this input ({one_line(error)}); the worker's log has more"
    )
    answer.__cause__ = error
    return answer


def _too_large(job: ScoreJob, error: Exception) -> BadRequest:
    answer = BadRequest(
        f"the worker ran out of memory on this input alone, which has {len(job.tokens)} tokens; "
        "shorten it, or give the worker more memory"
    )
    answer.__cause__ = error
    return answer


def _finite(rows: Mapping[int, Numbers]) -> bool:
    return all(math.isfinite(number) for row in rows.values() for number in row)
