"""Loopback addresses for pods, out of a block that no other kubelet of this host uses."""

import random
import socket
from pathlib import Path

_ATTEMPTS = 100


class NoFreeAddress(Exception):
    """Every address of the block is in use."""


class Addresses:
    """A /24 block of 127.0.0.0/8 held by this process, and the addresses given out of it."""

    def __init__(self) -> None:
        """Take a free block at random.

        Raises:
            NoFreeAddress: no block was free in a hundred attempts.
        """
        for _ in range(_ATTEMPTS):
            # Low blocks are where people put things by hand.
            self.block = f"127.{random.randint(16, 254)}.{random.randint(0, 255)}"  # noqa: S311
            # An abstract socket is a lock on the name in this network namespace that
            # the kernel drops with the process.
            self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._lock.bind(f"\0{__name__}/{self.block}")
            except OSError:
                self._lock.close()
                continue
            self._taken: set[str] = set()
            self._last = 0
            return
        raise NoFreeAddress("no free block of loopback addresses; stop some devclusters")

    def take(self) -> str:
        """An address that nobody listens on, not one given back a moment ago.

        Raises:
            NoFreeAddress: all are in use.
        """
        bound = _bound_addresses()
        for step in range(254):
            number = (self._last + step) % 254 + 1
            address = f"{self.block}.{number}"
            if address not in self._taken and address not in bound:
                self._taken.add(address)
                self._last = number
                return address
        raise NoFreeAddress(
            f"all 254 addresses of {self.block}.0/24 are in use; delete finished pods"
        )

    def release(self, address: str) -> None:
        """Give an address back."""
        self._taken.discard(address)

    def close(self) -> None:
        """Let other kubelets have the block."""
        self._lock.close()


def _bound_addresses() -> set[str]:
    """The IPv4 addresses that sockets of this host are bound to."""
    found = set()
    for table in ("tcp", "udp"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local = line.split()[1].split(":")[0]
            found.add(socket.inet_ntoa(bytes.fromhex(local)[::-1]))
    return found
