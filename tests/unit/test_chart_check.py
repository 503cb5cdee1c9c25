"""What `helm test` runs, against servers that answer rightly and wrongly."""

import runpy
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.chart_support import CHART

GOOD = {
    ("POST", "/v1/heartbeat"): 401,
    ("GET", "/healthz"): 200,
    ("GET", "/readyz"): 200,
    ("GET", "/metrics"): 200,
}


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[tuple[str, str], int]], str]]:
    """Makes a server that answers with these status codes, and gives its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Mapping[tuple[str, str], int]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answers.get((self.command, self.path), 404))
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def check() -> Callable[..., int]:
    """The script's main function, without patience."""
    main: Callable[..., int] = runpy.run_path(str(CHART / "files" / "check.py"))["main"]
    main.__globals__["PATIENCE_SECONDS"] = 0.0
    return main


def test_good(
    serve: Callable[..., str], check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(GOOD)
    assert check(url, url) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert all(line.startswith("ok: ") for line in said)


def test_without_a_service_for_metrics(
    serve: Callable[..., str], check: Callable[..., int]
) -> None:
    assert check(serve({("POST", "/v1/heartbeat"): 401})) == 0


@pytest.mark.parametrize("broken", [pytest.param(key, id=key[1]) for key in GOOD])
def test_each_check_can_fail(
    serve: Callable[..., str],
    check: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    broken: tuple[str, str],
) -> None:
    url = serve({**GOOD, broken: 503})
    assert check(url, url) == 1
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("FAILED"))
    assert line.startswith(f"FAILED: {broken[0]} {url}{broken[1]}: 503, not {GOOD[broken]}: ")


def test_nobody_there(check: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert check("http://127.0.0.1:9") == 1
    assert "no answer (" in capsys.readouterr().out
