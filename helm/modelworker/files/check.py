"""What `helm test` asks of an installation; runs in the operator's image.

Arguments: the base URL of the Service that workers post heartbeats to, and that of the Service
for metrics where there is one.
"""

# ruff: noqa: INP001 - a file of the chart, no module

import http.client
import sys
import time
from urllib.parse import urlsplit

PATIENCE_SECONDS = 60.0


def answer(method: str, url: str) -> int | str:
    """The status code of an answer, or why there is none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request(method, parts.path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error or type(error).__name__})"
    finally:
        connection.close()


def passes(method: str, url: str, wanted: int, meaning: str, until: float) -> bool:
    """Whether the URL answers as it should before the time is over; says so."""
    while (seen := answer(method, url)) != wanted and time.monotonic() < until:
        time.sleep(1)
    good = seen == wanted
    line = f"{'ok' if good else 'FAILED'}: {method} {url}: {seen}"
    sys.stdout.write(f"{line}, {meaning}\n" if good else f"{line}, not {wanted}: {meaning}\n")
    return good


def main(heartbeats: str, metrics: str = "") -> int:
    """Make each check; returns the exit code."""
    until = time.monotonic() + PATIENCE_SECONDS
    checks = [("POST", f"{heartbeats}/v1/heartbeat", 401, "the leader asks for a token")]
    if metrics:
        checks += [
            ("GET", f"{metrics}/healthz", 200, "an operator is alive"),
            ("GET", f"{metrics}/readyz", 200, "an operator is ready"),
            ("GET", f"{metrics}/metrics", 200, "Prometheus can scrape it"),
        ]
    results = [passes(*check, until) for check in checks]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
