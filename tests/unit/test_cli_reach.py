"""How workers are asked: at their own address or through the API server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from modelworker.cli._cluster import HEALTH_PATH, ApiServer, proxy_path
from modelworker.cli._facts import Worker
from modelworker.cli._failures import Failure
from modelworker.cli._reach import Reach
from modelworker_api import wire
from tests.cli_support import FakeCluster


class Handler(BaseHTTPRequestHandler):
    """Takes one token; says which way it was asked."""

    name = wire.HEADER_WORKER

    def do_GET(self) -> None:
        taken = (
            self.path in ("/open", HEALTH_PATH)
            or self.headers.get("authorization") == "Bearer right"
        )
        body = b"hello" if taken else b"this token is not taken"
        self.send_response(200 if taken else 401)
        self.send_header("X-Load", "1 2 3")
        if self.path == HEALTH_PATH:
            self.send_header(self.name, "p-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELWORKER_ACCESS", raising=False)


@pytest.fixture
def worker() -> Iterator[Worker]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Worker("p-1", "Ready", address=f"127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_directly(worker: Worker) -> None:
    reach = Reach(FakeCluster({}), "direct")
    answer = reach.fetch("ns", worker, "/open")
    assert (answer.text, answer.headers["x-load"]) == ("hello", "1 2 3")
    shown = {"Authorization": "Bearer right"}
    assert reach.fetch("ns", worker, "/guarded", direct_headers=shown).text == "hello"


def test_refusal_has_the_workers_words_and_not_the_token(worker: Worker) -> None:
    reach = Reach(FakeCluster({}), "direct")
    with pytest.raises(
        Failure, match="answered 401 to /guarded: this token is not taken"
    ) as caught:
        reach.fetch("ns", worker, "/guarded", direct_headers={"Authorization": "Bearer canary"})
    assert "canary" not in str(caught.value)


def test_nobody_there() -> None:
    gone = Worker("p-1", "Ready", address="127.0.0.1:1")
    with pytest.raises(Failure, match=r"worker p-1 does not answer at 127\.0\.0\.1:1"):
        Reach(FakeCluster({}), "direct").fetch("ns", gone, "/open")


@pytest.mark.parametrize(
    ("access", "in_cluster", "answers", "way"),
    [
        pytest.param("auto", False, True, "direct", id="what-answers-is-asked-directly"),
        pytest.param("auto", False, False, "proxy", id="else-through-the-api-server"),
        pytest.param(None, True, False, "direct", id="a-pod-asks-directly"),
        pytest.param("proxy", False, True, "proxy", id="as-told-proxy"),
        pytest.param("direct", False, False, "direct", id="as-told-direct"),
    ],
)
def test_way(access: str | None, in_cluster: bool, answers: bool, way: str) -> None:
    cluster = FakeCluster({})
    cluster.in_cluster = in_cluster
    cluster.reachable = {"10.0.0.1:8000"} if answers else set()
    assert Reach(cluster, access).way(Worker("p-1", "Ready", address="10.0.0.1:8000")) == way


def test_through_the_api_server() -> None:
    cluster = FakeCluster({proxy_path("ns", "p-1", "/open"): "hello"})
    reach = Reach(cluster, "proxy")
    answer = reach.fetch(
        "ns", Worker("p-1", "Ready"), "/open", direct_headers={"a": "b"}, proxy_headers={"c": "d"}
    )
    assert answer.text == "hello"
    assert cluster.fetched == [(proxy_path("ns", "p-1", "/open"), {"c": "d"})]


@pytest.mark.parametrize(
    ("header", "answers"),
    [
        pytest.param(wire.HEADER_WORKER, True, id="a-worker"),
        pytest.param("x-something-else", False, id="a-stranger"),
    ],
)
def test_who_answers(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, header: str, answers: bool
) -> None:
    monkeypatch.setattr(Handler, "name", header)
    api = SimpleNamespace(configuration=SimpleNamespace(host="https://cluster.example"))
    cluster = ApiServer(api, namespace="ns", in_cluster=False)
    assert cluster.answers(worker.address or "") is answers


def test_nobody_answers() -> None:
    api = SimpleNamespace(configuration=SimpleNamespace(host="https://cluster.example"))
    assert not ApiServer(api, namespace="ns", in_cluster=False).answers("127.0.0.1:1")
