"""How busy vLLM's engine is."""

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from modelworker_server.workers.base import Load


class EngineStats(StatLoggerBase):  # type: ignore[misc] # vLLM's types are not read
    """What the scheduler said after its last step."""

    def __init__(self) -> None:
        self._waiting = 0
        self._kv_usage = 0.0

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,  # noqa: ARG002 - vLLM's interface
        mm_cache_stats: Any = None,  # noqa: ARG002
        engine_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Take over the numbers of a step."""
        if scheduler_stats is not None:
            self._waiting = (
                scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            )
            self._kv_usage = scheduler_stats.kv_cache_usage

    def log_engine_initialized(self) -> None:
        """Nothing is to be told."""

    def load(self, unfinished: int) -> Load:
        """The load with so many requests unfinished, which is known without a step.

        An engine that has nothing to do takes no step, so what the last one said may be
        of requests that were aborted since.
        """
        waiting = min(self._waiting, unfinished)
        usage = self._kv_usage if unfinished else 0.0
        return Load(running=unfinished - waiting, waiting=waiting, kv_usage=usage)
