"""Where the workers are: given by the caller, or followed by a watch of the object.

Calls read `workers` from memory; the API server is asked once, then watched. While it is
away the last known workers stay.
"""

import asyncio
import copy
import importlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from modelworker import _errors
from modelworker._object import View, view_of
from modelworker._settings import Settings, access_of

if TYPE_CHECKING:
    from modelworker._kube import Cluster

FIRST_CONTACT_SECONDS: Final = 20.0
"""How long an API server that never answered is tried before the call fails."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between attempts to reach an API server that is away."""
SHOW_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)

Show = Callable[[str, int | None], None]
"""Told what the wait is for, and the percent that is loaded if known."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where an object lives: API server and namespace, and whether we are pods there too."""

    server: str
    namespace: str
    in_cluster: bool


class Endpoints(Protocol):
    """What the rest of the client knows of discovery."""

    model: str
    """The model name that requests carry."""

    @property
    def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers, as known now."""

    @property
    def service(self) -> str | None:
        """Base URL to try when no worker can be reached directly."""

    @property
    def given(self) -> bool:
        """Whether the caller named the workers."""

    async def ready(self, until: float, show: Show | None = None) -> None:
        """Wait for a ready worker until this time of the event loop's clock."""

    async def aclose(self) -> None:
        """Stop following."""


class Given:
    """Workers that the caller named."""

    service = None
    given = True

    def __init__(self, settings: Settings) -> None:
        self.model = settings.name
        self.workers = settings.endpoints or ()

    async def ready(self, until: float, show: Show | None = None) -> None:
        """Nothing to wait for."""

    async def aclose(self) -> None:
        """Nothing to stop."""


async def connect(settings: Settings) -> "Cluster":
    """The cluster of these settings.

    Raises:
        NoCluster: if there is none, or its kubeconfig cannot be used.
    """
    # The Kubernetes client takes a second to import: not in the event loop, and not before
    # somebody needs it.
    module = await asyncio.to_thread(importlib.import_module, "modelworker._kube")
    cluster: Cluster = await module.connect(settings)
    return cluster


class Watched:
    """The workers of a ModelWorker or RewardModel, followed through the Kubernetes API."""

    given = False

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[Settings], "Awaitable[Cluster]"] = connect,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._kind = settings.kind
        self._connect = connect
        self._luck = luck
        self._view: View | None = None
        self._failed: _errors.ModelWorkerError | None = None
        self._trouble: _errors.ModelWorkerError | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._version: str | None = None
        self._failures = 0
        self._through_api_server = access_of(settings) == "proxy"
        self.home: Home | None = None
        self.model = settings.name

    @property
    def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers, as known now."""
        return self._view.workers if self._view else ()

    @property
    def service(self) -> str | None:
        """URL of the Service: only pods can use it, and directly."""
        if self._view is None or self.home is None or self._through_api_server:
            return None
        return self._view.service if self.home.in_cluster else None

    @property
    def pods(self) -> Mapping[str, str]:
        """The pods of the ready workers, by base URL."""
        return self._view.pods if self._view else {}

    async def ready(self, until: float, show: Show | None = None) -> None:
        """Wait for a ready worker until this time of the event loop's clock.

        The first contact with the API server has a time of its own, so that even a short
        wait ends with what the object says.

        Raises:
            ModelWorkerNotFound, Rejected, NoCluster, AccessDenied, NotInstalled: at once.
            ClusterUnavailable: when the first contact fails for `FIRST_CONTACT_SECONDS`.
            NotReady: when the time is over, with the `Ready` condition's words.
        """
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            self._failed = self._trouble = self._version = None
            self._task = loop.create_task(self._follow(), name=f"modelworker watch {self.model}")
        first_contact = loop.time() + FIRST_CONTACT_SECONDS
        while not self.workers:
            now = loop.time()
            if self._failed is not None:
                raise copy.copy(self._failed) from self._failed
            if self._view is None:
                limit = first_contact
                if now >= limit:
                    raise self._no_contact()
            else:
                limit = until
                if self._view.rejected is not None:
                    raise _errors.Rejected(
                        f"{self._kind.kind} {self.model} is not accepted: {self._view.rejected}; "
                        "correct its spec and apply it again"
                    )
                if now >= limit:
                    raise _errors.NotReady(self._not_ready(self._view))
                if show is not None:
                    show(self._view.waiting, self._view.percent)
                    limit = min(limit, now + SHOW_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(limit):
                    await self._changed.wait()

    async def aclose(self) -> None:
        """Stop following, and close the connection to the API server."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def _no_contact(self) -> _errors.ModelWorkerError:
        if self._trouble is not None:
            return copy.copy(self._trouble)
        return _errors.ClusterUnavailable(
            f"the API server did not answer within {FIRST_CONTACT_SECONDS:.0f} s; "
            f"`kubectl get {self._kind.short}` shows whether it can be reached"
        )

    def _not_ready(self, view: View) -> str:
        stale = f" (and the API server is away: {self._trouble})" if self._trouble else ""
        namespace, _, name = self.model.rpartition("/")
        return (
            f"{self._kind.kind} {self.model} has no ready worker: {view.waiting}{stale}; "
            f"`kubectl describe {self._kind.short} {name} -n {namespace}` tells more"
        )

    # --- the watch -------------------------------------------------------------------

    async def _follow(self) -> None:
        """Keep the view up to date until cancelled, or until waiting cannot help.

        Each round connects anew, so that renewed credentials are read.
        """
        while True:
            try:
                async with aclosing(await self._connect(self._settings)) as cluster:
                    self.home = Home(cluster.server, cluster.namespace, cluster.in_cluster)
                    self.model = f"{cluster.namespace}/{self._settings.name}"
                    if self._version is None:
                        self._version = await self._list(cluster)
                    await self._watch(cluster, self._version)
            except _errors.Expired:
                self._version = None
            except _errors.ModelWorkerError as error:
                missing = isinstance(error, _errors.ModelWorkerNotFound)
                if missing or (self._view is None and not error.retryable):
                    self._view, self._failed = None, error
                    self._publish()
                    return
                if self._trouble is None:
                    logger.warning("keeping the known workers of %s: %s", self.model, error)
                self._trouble = error
                self._publish()
            self._failures += 1
            pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * (0.5 + 0.5 * self._luck()))

    async def _list(self, cluster: "Cluster") -> str:
        body, version = await cluster.read(self._settings.name)
        if body is None:
            raise await self._not_found(cluster)
        self._see(version, body)
        return version

    async def _watch(self, cluster: "Cluster", version: str) -> None:
        """Follow until the server ends the watch or the object is deleted."""
        async with aclosing(cluster.watch(self._settings.name, version)) as events:
            async for event in events:
                if event.deleted:
                    self._version = None
                    return
                self._see(event.version, event.body)

    def _see(self, version: str, body: Mapping[str, Any] | None) -> None:
        self._version, self._trouble, self._failures = version, None, 0
        if body is not None:
            self._view = view_of(body)
            self._publish()

    def _publish(self) -> None:
        """Wake everyone who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _not_found(self, cluster: "Cluster") -> _errors.ModelWorkerError:
        namespace = cluster.namespace
        try:
            names = await cluster.names()
        except _errors.ModelWorkerError:
            there = "which ones exist could not be read"
        else:
            there = f"there are: {', '.join(names)}" if names else "there are none"
        return _errors.ModelWorkerNotFound(
            f"no {self._kind.kind} {self._settings.name!r} in namespace {namespace!r}; {there}. "
            f"`kubectl get {self._kind.short} -n {namespace}` lists them, "
            "`-A` those of every namespace"
        )
