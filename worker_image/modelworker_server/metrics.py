"""What Prometheus can scrape of a worker."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from modelworker_server.workers.base import Load, ModelInfo

_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one worker, in the registry that is given."""

    def __init__(self, registry: CollectorRegistry, load_now: Callable[[], Load]) -> None:
        self._registry = registry
        self._others: list[CollectorRegistry] = []
        self._requests = Counter(
            "modelworker_requests", "Answered requests", ["route", "code"], registry=registry
        )
        self._duration = Histogram(
            "modelworker_request_duration_seconds",
            "Time from a request's arrival to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "modelworker_time_to_first_token_seconds",
            "Time from a streaming request's arrival to the first part of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "modelworker_prompt_tokens", "Prompt tokens of answered requests", registry=registry
        )
        self._completion_tokens = Counter(
            "modelworker_completion_tokens", "Tokens that were generated", registry=registry
        )
        self._scored_inputs = Counter(
            "modelworker_scored_inputs", "Inputs that got a reward", registry=registry
        )
        self._scored_tokens = Counter(
            "modelworker_scored_tokens", "Tokens of the inputs that got a reward", registry=registry
        )
        self._score_failures = Counter(
            "modelworker_score_failures",
            "Inputs that got an error instead of a reward",
            ["type"],
            registry=registry,
        )
        self._model = Gauge(
            "modelworker_model_info",
            "What is served; always 1",
            ["model", "revision", "dtype", "max_model_len"],
            registry=registry,
        )
        running = Gauge("modelworker_requests_running", "Requests that run", registry=registry)
        running.set_function(lambda: load_now().running)
        waiting = Gauge("modelworker_requests_waiting", "Requests that wait", registry=registry)
        waiting.set_function(lambda: load_now().waiting)

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Count one request; `code` is 499 if its client left before the end."""
        self._requests.labels(route, str(code)).inc()
        self._duration.labels(route).observe(seconds)

    def first_token(self, route: str, seconds: float) -> None:
        """Note how long a stream took to begin."""
        self._first_token.labels(route).observe(seconds)

    def tokens(self, *, prompt: int, completion: int) -> None:
        """Add the tokens of a request, also of one that was cut off."""
        self._prompt_tokens.inc(prompt)
        self._completion_tokens.inc(completion)

    def scored(self, *, inputs: int, tokens: int) -> None:
        """Add inputs that got a reward."""
        self._scored_inputs.inc(inputs)
        self._scored_tokens.inc(tokens)

    def score_failed(self, kind: str) -> None:
        """Count an input that got none; `kind` is its error's type."""
        self._score_failures.labels(kind).inc()

    def loaded(self, info: ModelInfo) -> None:
        """Say what is served."""
        self._model.labels(info.name, info.revision, info.dtype, str(info.max_model_len)).set(1)

    def add(self, registry: CollectorRegistry) -> None:
        """Show the metrics of another registry too, but those that are in this one."""
        self._others.append(registry)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Every metric, each name once."""
        seen: set[str] = set()
        for registry in (self._registry, *self._others):
            found = list(registry.collect())
            yield from (metric for metric in found if metric.name not in seen)
            seen.update(metric.name for metric in found)
