"""How a request gets to a worker: at the worker's own address, or through the API server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from modelworker import _endpoints, _errors, _probe, _settings
from modelworker._probe import Probe, Seen
from modelworker._settings import Settings
from modelworker._tokens import Identity, Issued, IssuedToken, Tokens
from modelworker._way import Gateway, Way
from modelworker_api import wire

if TYPE_CHECKING:
    from modelworker._endpoints import Home
    from modelworker._kube import Cluster

LOOK_SECONDS: Final = 1.0
"""Between two looks at whether workers can be reached directly."""

logger = logging.getLogger(__name__)

Connect = Callable[[Settings], "Awaitable[Cluster]"]


class Ways(Protocol):
    """The ways of one event loop."""

    async def to(self, worker: str) -> Way:
        """The way to a worker.

        Raises:
            ModelWorkerError: if there is none now.
        """

    async def after(self, way: Way, refusal: _errors.ModelWorkerError, *, by_gateway: bool) -> Way:
        """Another way after what this one shows was refused, by the gateway or the worker.

        Raises:
            ModelWorkerError: the refusal, if there is nothing else to show; or why.
        """

    def lost(self, way: Way) -> None:
        """No connection to the worker came about on this way."""

    async def aclose(self) -> None:
        """Close what is open."""


class Direct:
    """Workers at their own addresses, with a token or without."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: dict[str, Way] = {}

    async def to(self, worker: str) -> Way:
        """The worker's address."""
        token = self._tokens.now()
        way = self._known.get(worker)
        if way is None or way.token != token:
            shown = () if token is None else ((b"authorization", f"Bearer {token}".encode()),)
            way = self._known[worker] = Way(worker, worker, shown, token, self._tokens.source)
        return way

    async def after(self, way: Way, refusal: _errors.ModelWorkerError, *, by_gateway: bool) -> Way:  # noqa: ARG002 - there is none here
        """The same with another token."""
        if await self._tokens.instead_of(way.token) is None:
            raise refusal
        return await self.to(way.worker)

    def lost(self, way: Way) -> None:
        """There is no other way."""

    async def aclose(self) -> None:
        """End the renewal of tokens."""
        await self._tokens.aclose()


class Found(Protocol):
    """What the ways need of discovery."""

    @property
    def home(self) -> "Home | None":
        """The API server and the namespace, once they were reached."""

    @property
    def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers."""

    @property
    def pods(self) -> Mapping[str, str]:
        """Their pods, by base URL."""


class InCluster:
    """Workers of a cluster: directly where that works, else through the API server.

    With `access="auto"` a pod calls directly. Others look once whether a worker answers at
    its own address, and look again when one cannot be reached.
    """

    def __init__(
        self,
        settings: Settings,
        found: Found,
        *,
        tokens: Tokens | None = None,
        connect: Connect = _endpoints.connect,
        probe: Probe = _probe.probe,
    ) -> None:
        self._settings = settings
        self._found = found
        self._connect = connect
        self._probe = probe
        self._account = _settings.service_account_of(settings)
        self._tokens = tokens or IssuedToken(self._issue, self._identity)
        self._access = _settings.access_of(settings)
        self._clock = asyncio.get_running_loop().time
        self._lock = asyncio.Lock()
        self._direct = Direct(self._tokens)
        self._is_direct: bool | None = None
        self._looked_at = 0.0
        self._doubt = False
        self._cluster: Cluster | None = None
        self._gateway: Gateway | None = None
        self._known: dict[str, tuple[str | None, Way]] = {}

    async def to(self, worker: str) -> Way:
        """The way to a worker, by what was found out; see the class."""
        if self._is_direct is None or self._doubt:
            await self._look()
        if self._is_direct:
            return await self._direct.to(worker)
        return await self._through_gateway(worker)

    async def after(self, way: Way, refusal: _errors.ModelWorkerError, *, by_gateway: bool) -> Way:
        """The same with another token, or with the kubeconfig's credentials read anew."""
        if not by_gateway:
            if await self._tokens.instead_of(way.token) is None:
                raise refusal
        else:
            async with self._lock:
                if self._gateway is way.gateway:
                    await self._open_gateway()
        return await self.to(way.worker)

    def lost(self, way: Way) -> None:  # noqa: ARG002 - whichever it was
        """Look again, before the next request, at which way works."""
        if self._may_change() and self._clock() >= self._looked_at + LOOK_SECONDS:
            self._doubt = True

    async def aclose(self) -> None:
        """Close the connections to the API server."""
        await self._direct.aclose()
        await self._close_gateway()

    # --- direct or not ---------------------------------------------------------------

    def _may_change(self) -> bool:
        home = self._found.home
        return self._access == "auto" and home is not None and not home.in_cluster

    async def _look(self) -> None:
        async with self._lock:
            if self._is_direct is not None and not self._doubt:
                return
            if self._may_change():
                seen = await _probe.best(self._found.workers, self._probe)
                direct = seen is Seen.ANSWERS or (seen is Seen.REFUSES and bool(self._is_direct))
            else:
                direct = self._access != "proxy"
            if not direct and self._gateway is None:
                await self._open_gateway()
            if direct is not self._is_direct:
                logger.info(
                    "workers of %s are called %s",
                    self._settings.name,
                    "directly" if direct else "through the API server",
                )
            self._is_direct, self._doubt, self._looked_at = direct, False, self._clock()

    # --- the API server --------------------------------------------------------------

    async def _through_gateway(self, worker: str) -> Way:
        gateway, pod = self._gateway, self._found.pods.get(worker)
        if gateway is None or pod is None:
            raise _errors.Unreachable(f"worker {worker} is no longer one of the ready ones")
        token, authorization = self._tokens.now(), await gateway.authorization()
        before, way = self._known.get(worker, (None, None))
        if (
            way is None
            or way.gateway is not gateway
            or way.token != token
            or before != authorization
        ):
            way = self._proxied(worker, pod, gateway, token, authorization)
            self._known[worker] = (authorization, way)
        return way

    def _proxied(
        self,
        worker: str,
        pod: str,
        gateway: Gateway,
        token: str | None,
        authorization: str | None,
    ) -> Way:
        port = urlsplit(worker).port
        url = f"{gateway.server}/api/v1/namespaces/{gateway.namespace}/pods/http:{pod}:{port}/proxy"
        shown = {b"authorization": authorization, wire.HEADER_API_KEY.encode(): token}
        headers = tuple((name, text.encode()) for name, text in shown.items() if text is not None)
        return Way(worker, url, headers, token, self._tokens.source, gateway)

    async def _open_gateway(self) -> None:
        """Read the kubeconfig, and run its plugin, anew: credentials may have been renewed."""
        await self._close_gateway()
        self._cluster = await self._connect(self._settings)
        self._gateway = self._cluster.gateway()

    async def _close_gateway(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with suppress(_errors.ModelWorkerError):
                await cluster.aclose()

    async def _issue(self) -> Issued:
        async with aclosing(await self._connect(self._settings)) as cluster:
            return await cluster.issue(self._account)

    def _identity(self) -> Identity:
        home = self._found.home
        if home is None:
            return ("", "", "")
        return (home.server, home.namespace, self._account or "")
