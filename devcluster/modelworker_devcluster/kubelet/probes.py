"""Probes and hooks: asking a container one question, and judging a row of answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from modelworker_devcluster.kubelet.api import Object
from modelworker_devcluster.kubelet.environment import Mount, expand, rewrite
from modelworker_devcluster.kubelet.process import Command, StartError, run

_HEADERS = {"User-Agent": "kube-probe/devcluster", "Accept": "*/*"}


class ProbeFailure(Exception):
    """The answer was no; the message says what it was."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a row of answers amounts to: pure.

    Attributes:
        good: the verdict so far.
        run: how many answers in a row spoke against it.
    """

    good: bool
    run: int = 0

    def after(self, answer: bool, *, success_threshold: int, failure_threshold: int) -> "Verdict":
        """The verdict with one more answer."""
        if answer == self.good:
            return replace(self, run=0)
        needed = success_threshold if answer else failure_threshold
        if self.run + 1 >= needed:
            return Verdict(answer)
        return replace(self, run=self.run + 1)


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is asked.

    Attributes:
        address: its pod's IP address.
        ports: its named ports.
        command: its own command, for the surroundings of others run in it.
        mounts: where its paths really are.
        pid_file: where commands run in it note their process.
    """

    address: str
    ports: Mapping[str, int]
    command: Command
    mounts: Sequence[Mount]
    pid_file: Path

    def port(self, port: int | str) -> int:
        """The number of a port given by number or name.

        Raises:
            ProbeFailure: the container has no port of this name.
        """
        if isinstance(port, int):
            return port
        if port in self.ports:
            return self.ports[port]
        raise ProbeFailure(f"couldn't find port {port!r} in the container's ports")


class Prober:
    """Carries out the actions of probes and hooks."""

    def __init__(self) -> None:
        """Take the running event loop."""
        # Each probe opens a connection of its own, and does not check certificates.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0, ssl=False),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def act(self, action: Object, target: Target, *, timeout: float) -> None:
        """Carry out one `exec`, `httpGet`, `tcpSocket` or `sleep`.

        Args:
            action: the probe or the lifecycle handler.
            target: the container.
            timeout: seconds until the answer counts as no.

        Raises:
            ProbeFailure: the answer was no, or none in time.
        """
        try:
            async with asyncio.timeout(timeout):
                if get := action.get("httpGet"):
                    await self._get(get, target)
                elif tcp := action.get("tcpSocket"):
                    await _connect(tcp, target)
                elif nap := action.get("sleep"):
                    await asyncio.sleep(nap["seconds"])
                elif run_it := action.get("exec"):
                    await _execute(run_it["command"], target, timeout)
        except TimeoutError as error:
            raise ProbeFailure(f"no answer within {timeout:g} s") from error

    async def _get(self, get: Object, target: Target) -> None:
        scheme = get.get("scheme", "HTTP").lower()
        host = get.get("host") or target.address
        port = target.port(get["port"])
        path = "/" + get.get("path", "/").removeprefix("/")
        headers = _HEADERS | {one["name"]: one["value"] for one in get.get("httpHeaders", [])}
        url = f"{scheme}://{host}:{port}{path}"
        try:
            async with self._http.get(url, headers=headers, allow_redirects=False) as response:
                good, code = response.ok, response.status
        except (aiohttp.ClientError, OSError) as error:
            raise ProbeFailure(f'Get "{url}": {error}') from error
        if not good:
            raise ProbeFailure(f"HTTP probe failed with statuscode: {code}")


async def _connect(tcp: Object, target: Target) -> None:
    host = tcp.get("host") or target.address
    port = target.port(tcp["port"])
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ProbeFailure(f"dial tcp {host}:{port}: {error.strerror}") from error
    writer.close()


async def _execute(argv: Sequence[str], target: Target, timeout: float) -> None:
    env = target.command.env
    words = [rewrite(expand(word, env), target.mounts) for word in argv]
    command = replace(target.command, argv=words)
    try:
        code, output = await run(command, pid_file=target.pid_file, timeout=timeout)
    except StartError as error:
        raise ProbeFailure(str(error)) from error
    if code != 0:
        raise ProbeFailure(output or f"command ended with exit code {code}")
