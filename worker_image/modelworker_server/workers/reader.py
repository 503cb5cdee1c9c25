"""Reads the inputs that are not continued: who is read together, and long ones part by part."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from modelworker_server.workers.inputs import InputCall, Reading
from modelworker_server.workers.runner import Runner
from modelworker_server.workers.sequences import Call, Delivery

_SMALLEST: Final = 16
"""Tokens of a forward pass below which memory is not saved by reading less at once."""


class InputReader:
    """All calls whose inputs wait to be read. Used by one thread.

    Args:
        runner: the model.
        step_tokens: tokens of one forward pass, padding included; a longer input is read
            part by part, so that what is decoded meanwhile is not held up for long.
    """

    def __init__(self, runner: Runner, *, step_tokens: int) -> None:
        self._runner = runner
        self._most = step_tokens
        self._limit = step_tokens
        self._calls: deque[InputCall] = deque()
        self._batch: list[Reading] = []

    def add(self, call: InputCall) -> None:
        """Take a call in; first come first served."""
        self._calls.append(call)

    def calls(self) -> list[InputCall]:
        """Every call that is not done."""
        return list(self._calls)

    def drop(self, unwanted: Callable[[Call], bool]) -> None:
        """Forget calls that have failed or that nobody waits for."""
        self._calls = deque(call for call in self._calls if not unwanted(call))
        if any(unwanted(reading.call) for reading in self._batch):
            self._batch = []

    def step(self) -> list[tuple[Call, Delivery]]:
        """One forward pass, of as many inputs as fit; the calls that are done, with results.

        Raises:
            Exception: what the model raised; `shrink` and go on, or `abandon`.
        """
        if not self._calls:
            return []
        if not self._batch:
            self._batch = self._next()
        batch = self._batch
        first, begin = batch[0], min(reading.call.first for reading in batch)
        parts = [reading.tokens for reading in batch]
        if first.cache is None and not self._fits(first.call, 1, len(first.tokens), begin):
            first.cache = self._runner.prompt_cache([len(first.tokens)])
        if first.cache is not None:
            begin = max(0, begin - first.done)
            most = min(self._limit, begin + first.call.outputs(self._runner))
            parts = [first.tokens[first.done : first.done + most]]
            begin = min(begin, len(parts[0]) - 1)
        outputs = first.call.run(self._runner, parts, begin, first.cache)
        for reading, part, output in zip(batch, parts, outputs, strict=True):
            reading.done += len(part)
            reading.take(output)
        if first.done < len(first.tokens):
            return []
        self._batch = []
        return self._finished(batch)

    def shrink(self) -> bool:
        """After memory ran out: begin again and read less at once; False if that cannot help."""
        if self._limit <= _SMALLEST:
            return False
        self._limit = max(_SMALLEST, self._limit // 2)
        self._batch = []
        return True

    def abandon(self) -> list[Call]:
        """Give up what is read now; its calls."""
        batch, self._batch = self._batch, []
        return [reading.call for reading in batch]

    def _next(self) -> list[Reading]:
        """The inputs to read together: of one kind, so many that they fit with their padding."""
        head = self._calls[0]
        batch: list[Reading] = []
        width, begin = 0, head.first
        for call, index, tokens in self._waiting():
            width, begin = max(width, len(tokens)), min(begin, call.first)
            fits = type(call) is type(head) and self._fits(head, len(batch) + 1, width, begin)
            if batch and not fits:
                break
            batch.append(call.reading(index, tokens))
        return batch

    def _fits(self, call: InputCall, rows: int, width: int, begin: int) -> bool:
        """Whether one forward pass may have that size, with outputs from `begin` on."""
        outputs = rows * (width - begin)
        return rows * width <= self._limit and outputs <= call.outputs(self._runner)

    def _waiting(self) -> Iterator[tuple[InputCall, int, Sequence[int]]]:
        for call in self._calls:
            for index, tokens in call.pending:
                yield call, index, tokens

    def _finished(self, batch: Sequence[Reading]) -> list[tuple[Call, Delivery]]:
        """Tell each call of its inputs; the calls that have nothing left, with their results."""
        done: list[tuple[Call, Delivery]] = []
        for reading in batch:
            call = reading.call
            reading.finish()
            call.pending.popleft()
            if not call.pending:
                self._calls.remove(call)
                done.append((call, call.result()))
        self._limit = min(self._most, self._limit + len(done) * _SMALLEST)
        return done
