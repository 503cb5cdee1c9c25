"""Leader election with a Lease, and the gate that every write passes.

The library decides who may take the lease; what it leaves out is here: surviving an API
server that is away, giving the lease back, and knowing whether writes are still safe.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp
from kubernetes.aio.client import V1Lease, V1ObjectMeta
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config as ElectionConfig
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelworker_operator.config import Config
from modelworker_operator.errors import LeaseLost

LEASE_SECONDS: Final = 15
RENEW_DEADLINE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
_ATTEMPT_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Leadership:
    """Whether this process may write, by the time since it last renewed the lease.

    The monotonic clock goes on while the process is stopped, so that one that is resumed
    after its lease ran out finds the gate shut before it has asked anybody.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._renewed = -math.inf
        self._unlimited = False
        self._ended = False

    @classmethod
    def unlimited(cls, monotonic: Callable[[], float]) -> "Leadership":
        """The leadership of an operator that is alone."""
        leadership = cls(monotonic)
        leadership._unlimited = True
        return leadership

    def renewed(self, at: float) -> None:
        """The lease was renewed by a request that began at `at`."""
        self._renewed = at

    def end(self) -> None:
        """No write from now on."""
        self._ended = True

    @property
    def age(self) -> float:
        """Seconds since the lease was last renewed; infinite before that."""
        return self._monotonic() - self._renewed

    def remaining(self) -> float:
        """Seconds in which a write has to be over; 0 when none may begin."""
        if self._ended:
            return 0.0
        if self._unlimited:
            return math.inf
        return LEASE_SECONDS - self.age if self.age < RENEW_DEADLINE_SECONDS else 0.0


class _Lock(LeaseLock):
    """The library's lock; its own `create` passes an argument that its client refuses."""

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        lease = V1Lease(
            metadata=V1ObjectMeta(name=name),
            spec=self.update_lease(election_record),
        )
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except ApiException as error:
            _log.debug("lease %s/%s: %s", namespace, name, error.body)
            return False
        return True


class Election:
    """One candidate for the lease."""

    def __init__(
        self,
        client: ApiClient,
        config: Config,
        identity: str,
        leadership: Leadership,
        monotonic: Callable[[], float],
    ) -> None:
        # Without a fraction of a second the library's time stamps do not parse; it says
        # so once in a million renewals and goes on.
        logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.CRITICAL)
        self._leadership = leadership
        self._monotonic = monotonic
        self._identity = identity
        self._what = f"lease {config.lease_namespace}/{config.lease_name}"
        self._lock = _Lock(config.lease_name, config.lease_namespace, identity, client)
        self._election = LeaderElection(
            ElectionConfig(
                self._lock,
                lease_duration=LEASE_SECONDS,
                renew_deadline=RENEW_DEADLINE_SECONDS,
                retry_period=RETRY_SECONDS,
                onstarted_leading=_nothing,
                onstopped_leading=_nothing,
            )
        )
        self._problem = ""
        self._acquired: str | None = None
        self.attempted = monotonic()

    @property
    def holder(self) -> str:
        """Who held the lease when it was last read; empty if nobody."""
        record = self._election.observed_record
        return (record.holder_identity if record else None) or ""

    @property
    def _acquire_time(self) -> str | None:
        record = self._election.observed_record
        return record.acquire_time if record else None

    async def acquire(self) -> None:
        """Wait until this process holds the lease."""
        seen = None
        while not await self._attempt():
            if self.holder != seen and self.holder:
                _log.info("%s is held by %s; standing by", self._what, self.holder)
                seen = self.holder
            await asyncio.sleep(RETRY_SECONDS)
        self._acquired = self._acquire_time
        _log.info("%s is held by this process, %s", self._what, self._identity)

    async def hold(self) -> None:
        """Renew the lease for as long as nobody else has it.

        While the API server is away nobody can take the lease either: the gate shuts in
        time, and opens again with the first renewal.

        Raises:
            LeaseLost: another process holds the lease.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            held = await self._attempt()
            if held and self._acquire_time != self._acquired:
                # Somebody led in between and gave it back: what is known here is old.
                raise LeaseLost(f"{self._what} was held by another meanwhile; this process ends")
            if not held and self.holder not in ("", self._identity):
                raise LeaseLost(f"{self._what} was taken by {self.holder}; this process ends")

    async def release(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        self._leadership.end()
        try:
            async with asyncio.timeout(1.0):
                # A renewal that was under way when it was cancelled may come in between.
                while not await self._give_back():
                    pass
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("%s was not given back (%s); it runs out by itself", self._what, error)
        else:
            _log.info("%s is free for others", self._what)

    async def _give_back(self) -> bool:
        """Empty the lease if this process holds it; False if it changed meanwhile."""
        found, _ = await self._lock.get(self._lock.name, self._lock.namespace)
        lease = self._lock.lease_reference
        spec = lease.spec if found and lease else None
        if lease is None or spec is None or spec.holder_identity != self._identity:
            return True
        spec.holder_identity = None
        spec.lease_duration_seconds = 1
        try:
            await self._lock.api_instance.replace_namespaced_lease(
                self._lock.name, self._lock.namespace, lease
            )
        except ApiException as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    async def _attempt(self) -> bool:
        began = self.attempted = self._monotonic()
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                held = bool(await self._election.try_acquire_or_renew())
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            held = False
            self._complain(f"{type(error).__name__}: {error}")
        else:
            ours = self.holder in ("", self._identity)
            self._complain(
                "the API server refuses it; see that the namespace exists and that the operator "
                "may get, create and update leases there"
                if ours and not held
                else ""
            )
        if held and self._acquired in (None, self._acquire_time):
            self._leadership.renewed(began)
        return held

    def _complain(self, problem: str) -> None:
        """Log a problem once, not at every attempt."""
        if problem and not self._problem:
            _log.warning("%s cannot be taken or renewed: %s", self._what, problem)
        elif self._problem and not problem:
            _log.info("%s can be reached again", self._what)
        self._problem = problem


async def _nothing() -> None:
    """The library wants callbacks; `acquire` and `hold` do their work."""
