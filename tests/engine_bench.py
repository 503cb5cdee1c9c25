"""A scheduler that tests step by hand, on a model whose passes fail when they are told to."""

from collections.abc import Sequence
from typing import Any

import torch

from modelworker_server.workers.cache import RowCache
from modelworker_server.workers.runner import Runner
from modelworker_server.workers.scheduler import Scheduler
from modelworker_server.workers.sequences import Call, Generation
from tests.engine_support import plain, tokenizer

PROMPTS = [[1, 20, 30], [1, *range(40, 60)], [1, 9], [1, *range(100, 140)], [1, 77, 78, 79]]


class FaultyRunner(Runner):
    """A runner that raises what it is told to, once for each entry."""

    def __init__(self, model: Any, max_rows: int) -> None:
        super().__init__(model, layers=2, max_rows=max_rows)
        self.faults: dict[str, list[BaseException]] = {}
        self.prefilled: list[int] = []
        self.read: list[int] = []
        """Tokens of each pass over inputs that are not continued."""
        self.most_rows = 0

    def _raise(self, where: str) -> None:
        if waiting := self.faults.get(where):
            raise waiting.pop(0)

    def prefill(self, prompts: Sequence[Sequence[int]], cache: RowCache) -> torch.Tensor:
        self._raise("prefill")
        self.prefilled.append(max(map(len, prompts)) * len(prompts))
        return super().prefill(prompts, cache)

    def decode(self, token_ids: Sequence[int], cache: RowCache) -> torch.Tensor:
        self.most_rows = max(self.most_rows, len(token_ids))
        self._raise("decode")
        logits = super().decode(token_ids, cache)
        self._raise("decoded")
        return logits

    def hidden_states(
        self, inputs: Sequence[Sequence[int]], cache: RowCache | None = None
    ) -> list[torch.Tensor]:
        self._raise("read")
        self.read.append(max(map(len, inputs)) * len(inputs))
        return super().hidden_states(inputs, cache)

    def logits(
        self, inputs: Sequence[Sequence[int]], begin: int, cache: RowCache | None = None
    ) -> list[torch.Tensor]:
        self._raise("read")
        self.read.append(max(map(len, inputs)) * len(inputs))
        return super().logits(inputs, begin, cache)


class Bench:
    """A scheduler with the results that its calls got."""

    def __init__(self, model: Any, *, max_running: int = 4, step_tokens: int = 64) -> None:
        text = tokenizer().backend_tokenizer
        self.runner = FaultyRunner(model, max_running)
        self.scheduler = Scheduler(
            self.runner,
            max_running=max_running,
            step_tokens=step_tokens,
            eos_ids=frozenset({2}),
            decode=lambda ids, skip: text.decode(ids, skip_special_tokens=skip),
        )
        self.results: dict[Call, list[Any]] = {}

    def ask(self, prompt: Sequence[int], tokens: int, **changes: Any) -> Generation:
        call = Generation(prompt, plain(tokens, **changes), lambda _: None, streaming=False)
        self.add(call)
        return call

    def add(self, call: Call) -> None:
        self.results[call] = []
        self.scheduler.add(call)

    def step(self) -> None:
        with torch.inference_mode():
            self.scheduler.step()
        for call, delivery in self.scheduler.events:
            self.results[call].append(delivery)
        self.scheduler.events.clear()

    def finish(self, *, most: int = 500) -> None:
        for _ in range(most):
            if self.scheduler.idle():
                return
            self.step()
        raise AssertionError(f"still busy after {most} steps: {self.scheduler.load()}")

    def tokens(self, call: Call) -> list[list[int]]:
        (samples,) = self.results[call]
        assert isinstance(samples, tuple), samples
        return [list(sample.token_ids) for sample in samples]


def oom() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory")
