"""A cluster, workers and a clock made of plain values, for tests of the command line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from modelworker import Chunk, Generation, Sample, Score, StepScore, Usage
from modelworker.cli._cluster import Reply
from modelworker.cli._failures import Failure, Refused
from modelworker.cli._world import World
from modelworker_api import kube

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OBJECTS = {kind: f"/apis/{kube.API_VERSION}/namespaces/ns/{kind.plural}" for kind in kube.KINDS}
PODS = "/api/v1/namespaces/ns/pods"
EVENTS = "/apis/events.k8s.io/v1/namespaces/ns/events"
LEASES = "/apis/coordination.k8s.io/v1/leases"


def seen(seconds: float) -> str:
    """A time that long before now, as Kubernetes writes it."""
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def body(
    name: str,
    kind: kube.Kind = kube.MODELWORKER,
    *,
    reason: str | None = "AllReplicasReady",
    message: str = "all is well",
    ready: bool | None = None,
    observed: int = 1,
    workers: Sequence[Mapping[str, Any]] = (),
    others: Sequence[Mapping[str, Any]] = (),
    **spec: Any,
) -> dict[str, Any]:
    """An object in namespace ns; without a reason it has no status."""
    status: dict[str, Any] = {}
    if reason is not None:
        holds = reason == "AllReplicasReady" if ready is None else ready
        status = {
            "observedGeneration": observed,
            "readyReplicas": sum(worker["state"] == "Ready" for worker in workers),
            "workers": list(workers),
            "conditions": [condition("Ready", str(holds), reason, message), *others],
        }
    return {
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "generation": 1,
            "creationTimestamp": seen(3600),
        },
        "spec": {
            "replicas": 1,
            "backend": "Transformers",
            "model": {"source": {"pvc": {"claimName": "models", "path": name}}},
            **spec,
        },
        "status": status,
    }


def pod(
    name: str,
    of: str,
    kind: kube.Kind = kube.MODELWORKER,
    *,
    restarts: int = 0,
    phase: str = "Running",
    **metadata: Any,
) -> dict[str, Any]:
    """A pod of an object."""
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "labels": {kube.LABEL_KIND: kind.kind, kube.LABEL_NAME: of},
            "creationTimestamp": seen(60),
            **metadata,
        },
        "spec": {"nodeName": "node-1"},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": kube.WORKER_CONTAINER, "restartCount": restarts}],
        },
    }


def forbidden(what: str = "pods is forbidden") -> Refused:
    return Refused(403, what, "/x")


def absent(what: str = "not found") -> Refused:
    return Refused(404, what, "/x")


Answer = Any
"""A value, an error to raise, or a function that gives one of them."""


class FakeCluster:
    """Answers by path; what no path is known for is absent."""

    server = "https://cluster.example"
    in_cluster = False

    def __init__(self, answers: Mapping[str, Answer], namespace: str = "ns") -> None:
        self.answers_by_path = dict(answers)
        self.namespace = namespace
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.posted: list[tuple[str, Mapping[str, Any]]] = []
        self.fetched: list[tuple[str, Mapping[str, str]]] = []
        self.reachable: set[str] = set()

    def _answer(self, path: str) -> Any:
        found = self.answers_by_path.get(path, absent(f"{path} not found"))
        found = found() if callable(found) else found
        if isinstance(found, Exception):
            raise found
        return found

    def get(self, path: str, *, accept: str = "", **query: str) -> Any:
        self.asked.append((path, {"accept": accept, **query}))
        found = self._answer(path)
        return {"items": found} if isinstance(found, list) else found

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        self.posted.append((path, body))
        found = self.answers_by_path.get(path, absent())
        found = found(body) if callable(found) else found
        if isinstance(found, Exception):
            raise found
        return found

    def fetch(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        self.fetched.append((path, headers or {}))
        found = self._answer(path)
        return found if isinstance(found, Reply) else Reply(found, {})

    def lines(self, path: str, **query: str) -> Iterator[str]:
        self.asked.append((path, query))
        yield from self._answer(path)

    def answers(self, address: str) -> bool:
        return address in self.reachable


class Clock:
    """Time passes by sleeping alone; `at` runs things when a time has come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Callable[[], object]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [one for one in self.at if one <= self.now]:
            self.at.pop(due)()


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


class FakeModel:
    """An LM or an RMCall that answers from a list; `calls` is what it was asked."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[Any, Mapping[str, Any]]] = []
        self.made: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []

    def __call__(self, *arguments: Any, **options: Any) -> Self:
        self.made.append((arguments, options))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        pass

    def _next(self, asked: Any, options: Mapping[str, Any]) -> Any:
        self.calls.append((asked, options))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stream_chat(self, messages: Any, **options: Any) -> Iterator[Chunk]:
        for part in self._next(list(messages), options):
            if isinstance(part, BaseException):
                raise part
            yield part

    def chat(self, messages: Any, **options: Any) -> Any:
        return self._next(list(messages), options)

    def score(self, inputs: Any, **options: Any) -> Any:
        return self._next(list(inputs), options)


def parts(*texts: str, finish: str = "stop") -> list[Chunk]:
    """An answer as it comes."""
    chunks = [Chunk(0, text, (number,)) for number, text in enumerate(texts)]
    return [*chunks, Chunk(0, "", (), finish_reason=finish)]


def generation(text: str) -> Generation:
    sample = Sample(0, text, (1, 2), (-0.5, -0.25), "stop")
    return Generation((sample,), (9,), Usage(1, 2), "pod-1", "ns/policy", "rev", "float32")


def score(*values: float, **facts: Any) -> Score:
    """A score with steps of four characters each."""
    steps = tuple(
        StepScore(value, place * 4, place * 4 + 4, place, place + 1)
        for place, value in enumerate(values)
    )
    given: dict[str, Any] = {
        "aggregation": "min",
        "truncated": False,
        "recipe": "MathShepherd",
        "recipe_hash": "abc",
        "revision": "rev",
        "token_count": 12,
        "worker": "pod-1",
        **facts,
    }
    return Score(min(values), steps=steps, **given)


def world(
    answers: Mapping[str, Answer] | FakeCluster | Failure | None = None,
    *,
    lm: FakeModel | None = None,
    rm: FakeModel | None = None,
    clock: Clock | None = None,
) -> World:
    """A world with that cluster; a Failure is one that cannot be connected to."""
    cluster = answers if isinstance(answers, FakeCluster | Failure) else FakeCluster(answers or {})

    def connect(target: Any) -> Any:
        if isinstance(cluster, Failure):
            raise cluster
        cluster.namespace = target.namespace or cluster.namespace
        return cluster

    clock = clock or Clock()
    return World(
        connect=connect,
        lm=lm or FakeModel(),
        rm=rm or FakeModel(),
        now=lambda: NOW,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
