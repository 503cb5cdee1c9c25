"""A cluster, a network and workers that a test plays, for the ways to workers."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelworker._endpoints import Home
from modelworker._probe import Seen
from modelworker._settings import Access, Settings
from modelworker._tokens import GivenToken, Issued
from modelworker._way import Gateway
from modelworker._ways import InCluster

WORKER = "http://10.0.0.1:8000"
OTHER = "http://10.0.0.2:8000"
SERVER = "https://api.example:6443/k8s"
PROXIED = f"{SERVER}/api/v1/namespaces/ns/pods/http:pod-a:8000/proxy"


@dataclass
class PlayedDiscovery:
    """Workers that were found."""

    home: Home | None = field(default_factory=lambda: Home(SERVER, "ns", in_cluster=False))
    pods: Mapping[str, str] = field(default_factory=lambda: {WORKER: "pod-a", OTHER: "pod-b"})

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(self.pods)


@dataclass
class PlayedCluster:
    """Gives a gateway with one credential after the other, and tokens."""

    credentials: list[str] = field(default_factory=lambda: ["Bearer admin"])
    opened: int = 0
    closed: int = 0
    accounts: list[str | None] = field(default_factory=list)

    async def connect(self, _: Settings) -> Any:
        self.opened += 1
        return self

    async def aclose(self) -> None:
        self.closed += 1

    async def issue(self, account: str | None) -> Issued:
        self.accounts.append(account)
        return Issued(f"issued-{len(self.accounts)}", "ns/default", 3600.0)

    def gateway(self) -> Gateway:
        value = self.credentials[min(self.opened, len(self.credentials)) - 1]

        async def authorization() -> str:
            return value

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return Gateway(SERVER, "ns", tls, authorization)


@dataclass
class Network:
    """What a probe finds at each address."""

    seen: dict[str, Seen]
    looks: list[str] = field(default_factory=list)

    async def probe(self, worker: str) -> Seen:
        self.looks.append(worker)
        return self.seen.get(worker, Seen.SILENT)


@dataclass
class World:
    """All that a way depends on."""

    cluster: PlayedCluster = field(default_factory=PlayedCluster)
    found: PlayedDiscovery = field(default_factory=PlayedDiscovery)
    network: Network = field(default_factory=lambda: Network({}))

    def ways(self, access: Access | None = None, token: str | None = "mine") -> InCluster:
        return InCluster(
            Settings("policy", access=access),
            self.found,
            tokens=None if token is None else GivenToken(token),
            connect=self.cluster.connect,
            probe=self.network.probe,
        )


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in a new world."""
    asyncio.run(scenario(World()))
