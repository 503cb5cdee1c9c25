"""Where one cluster is: its files and its ports."""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

LOOPBACK = "127.0.0.1"

# Below the range that Linux gives to outgoing connections, so that nothing takes
# the port of an API server that was stopped and is to come back.
_PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster."""

    directory: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON audit event a line."""
        return self.directory / "audit.log"

    @property
    def audit_policy(self) -> Path:
        """The API server's audit policy."""
        return self.directory / "audit-policy.yaml"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.directory / "etcd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's folder, with `pods/` in it."""
        return self.directory / "kubelet"

    @property
    def kubectl_cache(self) -> Path:
        """The discovery cache of kubectl, kept out of the user's home."""
        return self.directory / "kubectl-cache"

    @property
    def temporary(self) -> Path:
        """For temporary files, which may be keys that a killed process left."""
        return self.directory / "tmp"

    def log(self, component: str) -> Path:
        """The output of a component."""
        return self.directory / "logs" / f"{component}.log"

    def pki(self, name: str) -> Path:
        """A key, a certificate or a component's kubeconfig."""
        return self.directory / "pki" / name


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one cluster, all on loopback but the API server's.

    Attributes:
        host: the address of the API server.
    """

    etcd: int
    etcd_peer: int
    api_server: int
    controller_manager: int
    scheduler: int
    host: str = field(default=LOOPBACK, kw_only=True)

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody listens on at this moment."""
        return cls(*free_ports(5))

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.host}:{self.api_server}"


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on at this moment."""
    found: list[int] = []
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            # As the servers do it: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports on {LOOPBACK} in {_PORTS.start}-{_PORTS.stop - 1}")
