"""`/healthz`, `/readyz` and `/metrics`: what the operator says of itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from modelworker_api import kube


@dataclass(frozen=True, slots=True)
class Report:
    """The operator at one moment. Problems are sentences; none means all is well."""

    leading: bool
    dead: tuple[str, ...]
    unready: tuple[str, ...]
    gauges: tuple[tuple[str, str, float], ...]
    """Name, meaning and value."""
    objects: tuple[tuple[str, int], ...] = ()
    """Custom resources by their kind."""
    states: tuple[tuple[str, int], ...] = ()
    """Pods by the state that they reported last."""


class Metrics(Collector):
    """Counters of the operator, under controller-runtime's names where it has one."""

    def __init__(self, report: Callable[[], Report]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._report = report
        self.reconciles = Counter(
            "controller_runtime_reconcile",
            "Passes over one object.",
            ["controller", "result"],
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "controller_runtime_reconcile_errors",
            "Passes that ended with an unexpected error.",
            ["controller"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of a pass.",
            ["controller"],
            buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=self.registry,
        )
        self.requests = Counter(
            "rest_client_requests",
            "Requests to the API server, watches and lease not included.",
            ["method", "resource", "code"],
            registry=self.registry,
        )
        self.heartbeats = Counter(
            "modelworker_heartbeats",
            "Heartbeats that were posted, by the status code of the answer.",
            ["code"],
            registry=self.registry,
        )
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the report says what there is."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The gauges of this moment."""
        report = self._report()
        leader = GaugeMetricFamily(
            "leader_election_master_status", "1 while this process leads.", labels=["name"]
        )
        leader.add_metric([kube.LEASE_NAME], float(report.leading))
        yield leader
        for name, meaning, value in report.gauges:
            yield GaugeMetricFamily(name, meaning, value=value)
        yield _counted("modelworker_objects", "Custom resources known.", "kind", report.objects)
        yield _counted(
            "modelworker_pods",
            "Worker pods by the state they last reported.",
            "state",
            report.states,
        )


def _counted(
    name: str, meaning: str, label: str, counts: Iterable[tuple[str, int]]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, meaning, labels=[label])
    for value, count in counts:
        gauge.add_metric([value], count)
    return gauge


def controller_label(kind: kube.Kind) -> str:
    """What the metrics call the controller of a kind."""
    return kind.kind.lower()


def health_app(report: Callable[[], Report], metrics: Metrics) -> Starlette:
    """The application; it answers as long as the event loop turns."""

    def answer(problems: tuple[str, ...], good: str) -> Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return PlainTextResponse("\n".join(problems or (good,)) + "\n", status.value)

    async def healthz(_: Request) -> Response:
        return answer(report().dead, "ok")

    async def readyz(_: Request) -> Response:
        now = report()
        return answer(now.unready, "leading" if now.leading else "standing by")

    async def prometheus(_: Request) -> Response:
        text = generate_latest(metrics.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", prometheus),
        ]
    )
