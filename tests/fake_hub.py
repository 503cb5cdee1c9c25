"""A loopback stand-in for the model hub: one repository, its files, and refusals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked."""

    repo: str
    folder: Path
    token: str | None = None
    gated: bool = False
    url: str = ""
    broken: frozenset[str] = frozenset()
    """Files whose download ends in an error of the server."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if self.gated and token != self.token:
            return refusal(403, "GatedRepo")
        if self.token is not None and token != self.token:
            return refusal(401, "RepoNotFound")
        if path.removeprefix("/api/models").startswith(f"/{self.repo}"):
            return self._repository(path)
        return refusal(404, "RepoNotFound")

    def _repository(self, path: str) -> tuple[int, dict[str, str], bytes]:
        names = sorted(p.name for p in self.folder.iterdir())
        match path.removeprefix("/api/models").removeprefix(f"/{self.repo}").split("/"):
            case [""] | ["", "revision", "main" | "HEAD"] | ["", "revision", _] if path.endswith(
                ("main", COMMIT, self.repo)
            ):
                files = [{"rfilename": name} for name in names]
                return found({"id": self.repo, "sha": COMMIT, "siblings": files, "private": False})
            case ["", "tree", revision] if revision in ("main", COMMIT):
                return found(
                    [
                        {"type": "file", "path": n, "size": self._size(n), "oid": f"{n}-blob"}
                        for n in names
                    ]
                )
            case ["", "resolve", revision, name] if name in names:
                if name in self.broken:
                    return 500, {}, b"broken"
                return (
                    200,
                    {"ETag": f'"{name}-blob"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"},
                    (self.folder / name).read_bytes(),
                )
            case ["", "resolve", _, _]:
                return refusal(404, "EntryNotFound")
        return refusal(404, "RevisionNotFound")

    def _size(self, name: str) -> int:
        return (self.folder / name).stat().st_size


def found(body: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def refusal(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"error": code}).encode()
    return status, {"X-Error-Code": code, "X-Error-Message": code}, body


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; `hub.url` is the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            hub.requests.append((self.command, path))
            hub.tokens.add(token)
            status, headers, body = hub.answer(path, token)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Requests are in `hub.requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
