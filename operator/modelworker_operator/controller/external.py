"""Workers outside the cluster that register themselves, where that is allowed."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from modelworker_api.fastchat import HeartbeatRequest, RegisterRequest, WorkerStatus
from modelworker_operator.controller.workers import Model, Worker

EXPIRY_SECONDS: Final = 90.0
"""FastChat's: a worker reports every 45 s."""
MOST_WORKERS: Final = 64
_MOST_PROBES: Final = 8

Probe = Callable[[str], Awaitable[WorkerStatus | None]]
"""Asks a worker for its status; None, logged, where there is no proper answer."""

_log = logging.getLogger(__name__)


def refusal(url: str, hosts: Sequence[str]) -> str | None:
    """Why a worker may not be registered under this URL; None where it may.

    Args:
        url: What the worker calls itself.
        hosts: Host names, addresses, and networks such as `10.1.0.0/16`.
    """
    try:
        parts = urlsplit(url)
        bare = f"{parts.scheme}://{parts.netloc}" == url and parts.port != 0
    except ValueError:
        return "it is not a URL"
    if not bare or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return "it must be http://HOST:PORT or https://HOST:PORT and no more"
    host = parts.hostname or ""
    if not host or not _allowed(host, hosts):
        return "its host is not in --controller-external-hosts"
    return None


def _allowed(host: str, hosts: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in {known.lower() for known in hosts}
    address = getattr(address, "ipv4_mapped", None) or address
    # Among them are the metadata services of clouds, which give away credentials.
    if address.is_link_local:
        return False
    return any(address in ipaddress.ip_network(known) for known in hosts if _is_network(known))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _External:
    """One registered worker."""

    url: str
    status: WorkerStatus
    expires: bool
    multimodal: bool
    seen: float
    """When it registered or last reported, in monotonic seconds."""
    report: object = field(default_factory=object)

    def workers(self) -> tuple[Worker]:
        """Itself, as one that can be called."""
        worker = Worker(
            id=self.url,
            address=self.url,
            load=self.status.queue_length,
            report=self.report,
            speed=max(1, self.status.speed),
        )
        return (worker,)


class Externals:
    """The registered workers.

    Args:
        hosts: Whose workers may register, as in `refusal`; nobody's if empty.
        probe: How a worker is asked for its status.
        monotonic: The clock, in seconds.
    """

    def __init__(self, hosts: Sequence[str], probe: Probe, monotonic: Callable[[], float]) -> None:
        self._hosts = tuple(hosts)
        self._probe = probe
        self._monotonic = monotonic
        self._workers: dict[str, _External] = {}
        self._probing = 0
        self._told = False

    async def register(self, request: RegisterRequest) -> None:
        """Take a worker in if its host may, and if it answers; the log tells what became of it.

        What it says of itself in the request is not used: it is asked for its status.
        """
        url = request.worker_name
        problem = self._refusal(url)
        if problem:
            self._refused(url, problem)
            return
        self._probing += 1
        try:
            status = await self._probe(url)
        finally:
            self._probing -= 1
        if status is None:
            return
        if url not in self._workers:
            _log.info("external worker %s serves %s", url, ", ".join(status.model_names))
        self._workers[url] = _External(
            url=url,
            status=status,
            expires=request.check_heart_beat,
            multimodal=request.multimodal,
            seen=self._monotonic(),
        )

    def heartbeat(self, request: HeartbeatRequest) -> bool:
        """Take over a worker's queue length; False for one that is not registered."""
        self._expire()
        known = self._workers.get(request.worker_name)
        if known is None:
            return False
        self._workers[known.url] = replace(
            known,
            status=known.status.model_copy(update={"queue_length": request.queue_length}),
            seen=self._monotonic(),
            report=object(),
        )
        return True

    async def refresh(self) -> None:
        """Ask every worker for its status again, and forget those that give none."""
        for url in list(self._workers):
            status = await self._probe(url)
            known = self._workers.pop(url, None)
            if known is not None and status is not None:
                self._workers[url] = replace(known, status=status, report=object())

    def now(self) -> tuple[Model, ...]:
        """What each of them serves."""
        self._expire()
        return tuple(
            Model(
                names=frozenset(one.status.model_names),
                tenant=(),
                find=one.workers,
                multimodal=one.multimodal,
            )
            for one in self._workers.values()
        )

    def _refusal(self, url: str) -> str | None:
        if not self._hosts:
            return "external workers may not register; --controller-allow-external allows it"
        self._expire()
        if url not in self._workers and len(self._workers) >= MOST_WORKERS:
            return f"{MOST_WORKERS} external workers are registered, which is the limit"
        if self._probing >= _MOST_PROBES:
            return "too many workers register at once"
        return refusal(url, self._hosts)

    def _refused(self, url: str, problem: str) -> None:
        """Log it, in full once: whoever is refused comes back every few seconds."""
        level = logging.DEBUG if self._told else logging.WARNING
        _log.log(level, "worker %.200r is not registered: %s", url, problem)
        self._told = True

    def _expire(self) -> None:
        limit = self._monotonic() - EXPIRY_SECONDS
        for one in list(self._workers.values()):
            if one.expires and one.seen < limit:
                _log.warning("external worker %s fell silent", one.url)
                del self._workers[one.url]
