"""Which token calls show to a worker: where it comes from, and when another one is due."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from modelworker import _errors, _settings
from modelworker._settings import Settings

STAT_SECONDS: Final = 1.0
"""How often a token's file is looked at, at most."""
RENEW_AT: Final = 0.8
"""Share of its life after which an issued token is renewed."""
RENEWAL_PAUSE_SECONDS: Final = 10.0
"""Between attempts to renew a token that is still good."""
FRESH_SECONDS: Final = 60.0
"""An issued token that is refused sooner than this is not replaced: the next one would be
refused too."""

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
Identity = tuple[str, str, str]
"""Whom a token was issued for: API server, namespace of the object, service account."""


class Tokens(Protocol):
    """The token of one client, for one event loop."""

    @property
    def source(self) -> str:
        """What is shown, in the words of an error."""

    def now(self) -> str | None:
        """The token to show; None where there is none, or none yet.

        Raises:
            AccessDenied: if its file cannot be read.
        """

    async def instead_of(self, refused: str | None) -> str | None:
        """Another token after a worker refused this one; None where there is no other.

        Raises:
            ModelWorkerError: if another one cannot be had.
        """

    async def aclose(self) -> None:
        """End what goes on in the background."""


class NoToken:
    """Nothing to show."""

    source: str = "no token"

    def now(self) -> str | None:
        """None."""
        return None

    async def instead_of(self, refused: str | None) -> str | None:  # noqa: ARG002 - protocol
        """None."""
        return None

    async def aclose(self) -> None:
        """Nothing to end."""


class GivenToken(NoToken):
    """A token that the caller gave."""

    source = "the token given as api_key"

    def __init__(self, token: str) -> None:
        self._token = token

    def now(self) -> str | None:
        """The token."""
        return self._token


class FileToken(NoToken):
    """A token in a file, which somebody else renews."""

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token: str | None = None
        self._seen: tuple[int, ...] = ()
        self._look_at = float("-inf")
        self.source = f"the token in {path}"

    def now(self) -> str | None:
        """The token, read again when the file has changed; it is looked at once a second."""
        now = self._clock()
        if now >= self._look_at:
            self._look()
            self._look_at = now + STAT_SECONDS
        return self._token

    async def instead_of(self, refused: str | None) -> str | None:
        """The file's token, if it is another one by now."""
        self._seen = ()
        self._look()
        return None if self._token == refused else self._token

    def _look(self) -> None:
        """Read the file if it has changed; while it cannot be read, the known token stays."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._token = self._read()
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            if self._token is None:
                said = getattr(error, "strerror", None) or "it is no text"
                raise _errors.AccessDenied(
                    f"{self.source} cannot be read: {said}; mount a token there, or say where "
                    "it is with MODELWORKER_TOKEN_FILE or what it is with api_key=..."
                ) from error

    def _read(self) -> str:
        token = self._path.read_text().strip()
        if not _settings.TOKEN.fullmatch(token):
            raise _errors.AccessDenied(
                f"{self.source} is none: the file must hold one word of printable ASCII, "
                "as `kubectl create token` prints it"
            )
        return token


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that the API server issued."""

    token: str = field(repr=False)
    account: str
    """Whose it is, as `NAMESPACE/NAME`."""
    seconds: float
    """How long it is good for."""


@dataclass(slots=True)
class _Kept:
    token: str = field(repr=False)
    account: str
    issued_at: float
    renew_at: float


_kept: Final[dict[Identity, _Kept]] = {}
"""The tokens of this process: clients of one object share one."""


class IssuedToken:
    """A token that the API server issues, asked for when a worker first wants one.

    Args:
        issue: asks the API server.
        identity: for whom it is; known once the object has been found.
        clock: one that goes on while the machine sleeps, as a token's life does.
    """

    def __init__(
        self,
        issue: Callable[[], Awaitable[Issued]],
        identity: Callable[[], Identity],
        clock: Clock = time.time,
    ) -> None:
        self._issue = issue
        self._identity = identity
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    @property
    def source(self) -> str:
        """What is shown, in the words of an error."""
        kept = _kept.get(self._identity())
        return f"a token of service account {kept.account}" if kept else NoToken.source

    def now(self) -> str | None:
        """The token; one that grows old is renewed in the background."""
        kept = _kept.get(self._identity())
        if kept is None:
            return None
        if self._clock() >= kept.renew_at and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.get_running_loop().create_task(self._renew(kept))
        return kept.token

    async def instead_of(self, refused: str | None) -> str | None:
        """Another token; of many callers at once, one asks for it."""
        async with self._one_at_a_time:
            kept = _kept.get(self._identity())
            if kept is None or kept.token == refused:
                if kept is not None and self._clock() < kept.issued_at + FRESH_SECONDS:
                    return None
                kept = await self._ask()
            return kept.token

    async def aclose(self) -> None:
        """End a renewal."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renew(self, old: _Kept) -> None:
        async with self._one_at_a_time:
            if _kept.get(self._identity()) is not old:
                return
            try:
                await self._ask()
            except _errors.ModelWorkerError as error:
                logger.warning("the token for workers is not renewed yet: %s", error)
                old.renew_at = self._clock() + RENEWAL_PAUSE_SECONDS

    async def _ask(self) -> _Kept:
        issued = await self._issue()
        now = self._clock()
        kept = _Kept(issued.token, issued.account, now, now + RENEW_AT * issued.seconds)
        _kept[self._identity()] = kept
        return kept


def chosen(settings: Settings) -> Tokens | None:
    """The token that the caller gave or mounted; None if one has to be asked for."""
    if settings.api_key is not None:
        return GivenToken(settings.api_key)
    path = _settings.token_file()
    return None if path is None else FileToken(path)
