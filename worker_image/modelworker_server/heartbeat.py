"""Tells the operator how the worker is: regularly, and at once when something changed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx
from pydantic import ValidationError

from modelworker_api import kube, wire
from modelworker_api.adapters import Adapter
from modelworker_server.credentials import one_word
from modelworker_server.lifecycle import Lifecycle

JITTER: Final = 0.2
FIRST_RETRY: Final = 1.0
MIN_INTERVAL: Final = 1.0
MAX_INTERVAL: Final = 300.0
TIMEOUT: Final = 5.0
"""Seconds for one heartbeat."""

_log = logging.getLogger(__name__)


class Undelivered(Exception):
    """A heartbeat did not arrive; `kind` is the same for failures that are alike."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Heartbeats:
    """Sends heartbeats until it is cancelled; no failure ends it.

    Args:
        client: Sends the requests; redirects must be off, as they would carry the token away.
        url: Base URL of the operator's listener.
        token_file: File with the bearer token, read again each time because it rotates.
        interval: Seconds between heartbeats until the operator answers another number.
        lifecycle: Says when something changed.
        beat: What to tell now.
        want: Called with the adapters of an answer that names any; it returns at once.
        trust: Called with the trust of an answer that has one.
        random: Uniform in [0, 1), so that a fleet does not beat in step.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        url: str,
        token_file: Path | None,
        interval: float,
        lifecycle: Lifecycle,
        beat: Callable[[], wire.Heartbeat],
        want: Callable[[Sequence[Adapter]], None],
        trust: Callable[[wire.Trust], None],
        random: Callable[[], float],
    ) -> None:
        self._client = client
        self._url = url.rstrip("/") + kube.HEARTBEAT_PATH
        self._token_file = token_file
        self._interval = interval
        self._lifecycle = lifecycle
        self._beat = beat
        self._want = want
        self._trust = trust
        self._random = random
        self._failures: set[str] = set()
        self._understands = True
        self._told: wire.LoadState | None = None

    async def run(self) -> None:
        """Beat for ever."""
        retry = FIRST_RETRY
        while True:
            if await self._deliver():
                delay, retry = self._interval, FIRST_RETRY
            else:
                delay, retry = retry, min(2 * retry, self._interval)
            delay *= 1 + JITTER * (2 * self._random() - 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lifecycle.changed(), delay)

    async def last(self, seconds: float) -> None:
        """Tell the present state unless it was told already, trying for so many seconds."""
        if self._told is self._lifecycle.state:
            return
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if await self._deliver():
                        return
                    await asyncio.sleep(FIRST_RETRY / 2)
        except TimeoutError:
            _log.warning("the operator was not told that this worker is %s", self._lifecycle.state)

    async def _deliver(self) -> bool:
        beat = self._beat()
        try:
            reply = await self._post(beat)
        except Undelivered as failure:
            if failure.kind not in self._failures:
                self._failures.add(failure.kind)
                _log.warning("no heartbeat was delivered: %s; retrying", failure)
            return False
        if self._failures:
            self._failures.clear()
            _log.info("heartbeats are delivered again")
        self._told = beat.state
        if reply is not None:
            self._interval = min(max(reply.interval_seconds, MIN_INTERVAL), MAX_INTERVAL)
            if reply.adapters is not None:
                self._want(reply.adapters)
            if reply.trust is not None:
                self._trust(reply.trust)
        return True

    async def _post(self, beat: wire.Heartbeat) -> wire.HeartbeatReply | None:
        headers = {"content-type": "application/json"}
        if self._token_file is not None:
            headers["authorization"] = f"Bearer {_token(self._token_file)}"
        body = beat.model_dump_json(exclude_none=True)
        try:
            response = await self._client.post(
                self._url, content=body, headers=headers, timeout=TIMEOUT
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            raise Undelivered(kind, f"{self._url}: {kind}: {error}") from error
        if not response.is_success:
            said = response.text[:200].strip()
            raise Undelivered(
                str(response.status_code), f"{self._url} answered {response.status_code}: {said}"
            )
        try:
            return wire.HeartbeatReply.model_validate_json(response.content)
        except ValidationError as error:
            if self._understands:
                self._understands = False
                wrong = ", ".join(
                    ".".join(map(str, one["loc"])) or "body" for one in error.errors()
                )
                _log.warning(
                    "the answer to a heartbeat is not understood, so nothing of it is taken "
                    "(wrong: %.200s); operator and worker should be of one version",
                    wrong,
                )
            return None


def _token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Undelivered("token", f"the token cannot be read: {error}") from error
    if not one_word(token):
        raise Undelivered("token", f"{file} holds more than a token; put the token alone into it")
    return token
