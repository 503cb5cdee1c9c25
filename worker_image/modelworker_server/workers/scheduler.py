"""Who is read, decoded and finished in each step of the engine.

A step reads at most one part of the waiting prompts, starts the samples that have a free row,
decodes one token of every running row, and reads at most one batch of other inputs.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch

from modelworker_server.errors import OutOfMemory, Unavailable
from modelworker_server.workers.base import Load
from modelworker_server.workers.inputs import InputCall
from modelworker_server.workers.jobs import Job, Reading, Ready
from modelworker_server.workers.reader import InputReader
from modelworker_server.workers.runner import NOT_A_NUMBER, Runner, one_line, out_of_memory
from modelworker_server.workers.sampling import Choice, choose
from modelworker_server.workers.sequences import (
    Call,
    Continuation,
    Delivery,
    Event,
    Generation,
)

_log = logging.getLogger(__name__)


class Scheduler:
    """Everything that is under way on one model. Used by one thread.

    Args:
        runner: the model.
        max_running: rows decoded together.
        step_tokens: prompt tokens read in one step, so that a long prompt does not hold up
            the rows that are being decoded.
        eos_ids: tokens that end a sequence.
        decode: text of token ids; the flag says whether special tokens are skipped.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_running: int,
        step_tokens: int,
        eos_ids: frozenset[int],
        decode: Callable[[list[int], bool], str],
    ) -> None:
        self.events: list[Event] = []
        """What callers are to get; emptied by the owner."""
        self._runner = runner
        self._max_running = max_running
        self._limit = max_running
        self._step_tokens = step_tokens
        self._eos_ids = eos_ids
        self._decode_text = decode
        self._waiting: deque[Job] = deque()
        self._reading: Reading | None = None
        self._ready: deque[Ready] = deque()
        self._rows: list[Continuation] = []
        self._cache = runner.new_cache()
        self._inputs = InputReader(runner, step_tokens=step_tokens)

    def add(self, call: Call) -> None:
        """Take a call in; its work begins when rows are free, first come first served."""
        if isinstance(call, InputCall):
            self._inputs.add(call)
        elif isinstance(call, Generation):
            skip = call.params.skip_special_tokens
            call.start(lambda ids: self._decode_text(ids, skip), self._eos_ids)
            self._waiting.append(Job(call.prompt_ids, list(call.sequences)))

    def idle(self) -> bool:
        """Whether there is nothing to do."""
        texts = self._waiting or self._reading or self._ready or self._rows
        return not (texts or self._inputs.calls())

    def load(self) -> Load:
        """Requests that have begun and those that wait."""
        running = {id(request) for request in self._begun()}
        waiting = {id(job.request) for job in self._waiting} - running
        return Load(running=len(running), waiting=len(waiting) + len(self._inputs.calls()))

    def step(self) -> None:
        """Do one step of everything. Raises only what leaves the device unusable."""
        self._sweep()
        for work, abandon in (
            (self._read, self._abandon_reading),
            (self._start, self._abandon_rows),
            (self._decode, self._abandon_rows),
        ):
            try:
                work()
            except Exception as error:
                self._recover(error, abandon)
        self._read_inputs()

    def fail_all(self, error: Exception) -> None:
        """End every call with an error."""
        waiting = [job.request for job in self._waiting]
        for call in [*self._begun(), *waiting, *self._inputs.calls()]:
            self._fail(call, error)

    def _begun(self) -> list[Generation]:
        return [
            *(job.request for job in (self._reading.jobs if self._reading else ())),
            *(ready.job.request for ready in self._ready),
            *(row.request for row in self._rows),
        ]

    # --- the parts of a step -----------------------------------------------------------

    def _sweep(self) -> None:
        """Drop what has failed and what callers no longer want."""
        self._waiting = deque(job for job in self._waiting if _wanted(job.request))
        self._ready = deque(ready for ready in self._ready if _wanted(ready.job.request))
        self._inputs.drop(lambda call: not _wanted(call))
        if self._reading and not any(_wanted(job.request) for job in self._reading.jobs):
            self._reading = None
        self._keep_rows([row for row in self._rows if _wanted(row.request)])

    def _read(self) -> None:
        if self._reading is None and not self._ready:
            self._reading = self._next_reading()
        if (reading := self._reading) is None:
            return
        prompts: list[Sequence[int]] = [job.token_ids for job in reading.jobs]
        if len(prompts) == 1:
            done = reading.cache.width
            prompts = [prompts[0][done : done + self._step_tokens]]
        logits = self._runner.prefill(prompts, reading.cache)
        if reading.cache.width == max(len(job.token_ids) for job in reading.jobs):
            self._ready.extend(
                Ready(job, reading.cache, row, logits[row]) for row, job in enumerate(reading.jobs)
            )
            self._reading = None

    def _next_reading(self) -> Reading | None:
        free, width = self._limit - len(self._rows), 0
        jobs: list[Job] = []
        while self._waiting and free > 0:
            job = self._waiting[0]
            width = max(width, len(job.token_ids))
            if jobs and width * (len(jobs) + 1) > self._step_tokens:
                break
            jobs.append(self._waiting.popleft())
            free -= len(job.sequences)
        if not jobs:
            return None
        return Reading(jobs, self._runner.prompt_cache([len(job.token_ids) for job in jobs]))

    def _start(self) -> None:
        while self._ready and (free := self._limit - len(self._rows)) > 0:
            ready = self._ready[0]
            batch = ready.job.sequences[:free]
            choices = choose(
                ready.logits.expand(len(batch), -1), [sequence.chooser for sequence in batch]
            )
            going_on = self._push(batch, choices)
            if len(batch) == len(ready.job.sequences):
                self._ready.popleft()
            else:
                del ready.job.sequences[: len(batch)]
            if going_on:
                self._rows += going_on
                self._cache.append(ready.cache, ready.row, len(going_on))

    def _decode(self) -> None:
        if not self._rows:
            return
        logits = self._runner.decode([row.token_ids[-1] for row in self._rows], self._cache)
        choices = choose(logits, [row.chooser for row in self._rows])
        self._keep_rows(self._push(self._rows, choices))

    def _read_inputs(self) -> None:
        try:
            for call, result in self._inputs.step():
                self._finish(call, result)
        except Exception as error:
            if out_of_memory(error) and self._inputs.shrink():
                self._runner.free()
            else:
                self._recover(error, self._inputs.abandon)

    # --- results -----------------------------------------------------------------------

    def _push(
        self, sequences: Sequence[Continuation], choices: Sequence[Choice | None]
    ) -> list[Continuation]:
        """Give each sequence its token; returns those that go on."""
        going_on = []
        for sequence, choice in zip(sequences, choices, strict=True):
            request = sequence.request
            if choice is None:
                self._fail(request, Unavailable(NOT_A_NUMBER))
                continue
            sequence.push(choice)
            if request.streaming and sequence.news():
                self.events.append((request, sequence.take()))
            if sequence.finish_reason is None:
                going_on.append(sequence)
            elif request.done():
                self._finish(request, request.result())
        return going_on

    def _keep_rows(self, kept: Iterable[Continuation]) -> None:
        wanted = {id(row) for row in kept}
        for index in reversed(range(len(self._rows))):
            if id(self._rows[index]) not in wanted:
                self._cache.remove(index)
                self._rows[index] = self._rows[-1]
                self._rows.pop()

    def _finish(self, call: Call, result: Delivery) -> None:
        call.finished = True
        self.events.append((call, result))
        self._limit = min(self._max_running, self._limit + 1)

    def _fail(self, call: Call, error: Exception) -> None:
        if not call.finished:
            call.finished = True
            self.events.append((call, error))

    # --- when a step fails -------------------------------------------------------------

    def _recover(self, error: Exception, abandon: Callable[[], Iterable[Call]]) -> None:
        """Go on after an error: with fewer rows if memory ran out, else without its calls."""
        if isinstance(error, torch.AcceleratorError):
            raise error  # the device context is lost; only a new process gets another one
        if out_of_memory(error) and self._retreat():
            _log.warning("out of memory: going on with %d rows at most", self._limit)
            return
        _log.error("a step of the engine failed", exc_info=error)
        answer = _step_failed(error)
        answer.__cause__ = error
        for call in abandon():
            self._fail(call, answer)

    def _retreat(self) -> bool:
        """Halve the rows and read everything again later; False if that cannot help."""
        jobs = [Job(row.request.prompt_ids + row.token_ids, [row]) for row in self._rows]
        jobs += [ready.job for ready in self._ready]
        jobs += self._reading.jobs if self._reading else []
        total = sum(len(job.sequences) for job in jobs)
        if total <= 1 or self._limit == 1:
            return False
        self._limit = max(1, min(self._limit, total) // 2)
        self._abandon_reading()
        self._abandon_rows()
        self._runner.free()
        self._waiting.extendleft(reversed(jobs))
        return True

    def _abandon_reading(self) -> list[Generation]:
        jobs = self._reading.jobs if self._reading else []
        self._reading = None
        return [job.request for job in jobs]

    def _abandon_rows(self) -> list[Generation]:
        requests = [row.request for row in self._rows]
        requests += [ready.job.request for ready in self._ready]
        self._rows.clear()
        self._ready.clear()
        self._cache.clear()
        return requests


def _wanted(call: Call) -> bool:
    return not (call.finished or call.cancelled)


def _step_failed(error: Exception) -> Unavailable:
    if out_of_memory(error):
        return OutOfMemory(
            "the worker ran out of memory on this request alone; ask for fewer tokens, or give "
            "the worker more memory or a lower maximum length"
        )
    return Unavailable(
        f"the model failed on this request ({one_line(error)}); the worker's log has more"
    )
