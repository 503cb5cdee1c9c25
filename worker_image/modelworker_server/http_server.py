"""The HTTP/1.1 server, with limits against slow and endless clients."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

KEEP_ALIVE_SECONDS: Final = 75
MAX_HEADER_BYTES: Final = 64 * 1024


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def server_for(app: Any, *, native: bool = False) -> Server:
    """A server of an application.

    Args:
        app: The ASGI application.
        native: Parse HTTP in C, for engines that answer faster than Python parses; it needs
            the package httptools, which vLLM brings along.
    """
    return Server(
        uvicorn.Config(
            app,
            http=_native_protocol() if native else "h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
    )


def _native_protocol() -> Any:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415 - an extra

    class LimitedProtocol(HttpToolsProtocol):
        """httptools without its one weakness: it takes a head of any length."""

        _received = 0
        """Bytes of a head that has not ended."""
        _parsed = 0
        """Bytes of a head in its path and headers."""

        def data_received(self, data: bytes) -> None:
            """Parse what came, and refuse a head that does not end."""
            self._received += len(data)
            super().data_received(data)
            if self._received > MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

        def on_message_begin(self) -> None:
            """A head begins."""
            super().on_message_begin()
            self._parsed = 0

        def on_url(self, url: bytes) -> None:
            """Take the path in."""
            super().on_url(url)
            self._grow(len(url))

        def on_header(self, name: bytes, value: bytes) -> None:
            """Take a header in."""
            super().on_header(name, value)
            self._grow(len(name) + len(value))

        def on_headers_complete(self) -> None:
            """The head is there."""
            self._received = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            """Bodies have a limit of their own."""
            self._received = 0
            super().on_body(body)

        def _grow(self, size: int) -> None:
            self._parsed += size
            if self._parsed > MAX_HEADER_BYTES:
                raise ValueError("too long")  # the parser stops, and the answer is 400

    return LimitedProtocol
