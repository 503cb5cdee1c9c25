"""`python -m modelworker_operator`: settings, lease, watches, listeners; ends on SIGTERM.

Exit codes: 0 after SIGTERM or SIGINT; 1 an unexpected failure; 2 settings or credentials;
3 a custom resource definition is not installed; 4 the lease was lost.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import kopf
from kubernetes.aio.client.api_client import ApiClient
from pydantic import ValidationError

from modelworker_operator.cluster import Cluster, connect
from modelworker_operator.config import Config, load_config
from modelworker_operator.controller.start import serve_controller
from modelworker_operator.election import Election, Leadership
from modelworker_operator.errors import (
    CannotListen,
    ClusterUnavailable,
    CrdMissing,
    LeaseLost,
    NoCredentials,
    OperatorError,
)
from modelworker_operator.handlers import handlers, settings
from modelworker_operator.health import health_app
from modelworker_operator.leader import keep_published
from modelworker_operator.periodic import repeat
from modelworker_operator.queue import backoff_seconds
from modelworker_operator.runtime import Clock, Runtime
from modelworker_operator.serving import serve
from modelworker_operator.trust import RENEW_SECONDS

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_NO_CRD: Final = 3
EXIT_LEASE_LOST: Final = 4
_EXIT_CODES: Final = {
    NoCredentials: EXIT_SETTINGS,
    CannotListen: EXIT_SETTINGS,
    CrdMissing: EXIT_NO_CRD,
    LeaseLost: EXIT_LEASE_LOST,
}

_log = logging.getLogger("modelworker_operator")


class Operator:
    """One process of the operator."""

    def __init__(self, config: Config, client: ApiClient, identity: str) -> None:
        self._config = config
        self._client = client
        self._clock = Clock(time.monotonic, time.time, lambda: datetime.now(UTC))
        self._election: Election | None = None
        if config.leader_elect:
            self._leadership = Leadership(time.monotonic)
            self._election = Election(client, config, identity, self._leadership, time.monotonic)
        else:
            self._leadership = Leadership.unlimited(time.monotonic)
        self._runtime = Runtime(
            config,
            self._clock,
            leadership=self._leadership,
            election=self._election,
            cluster=lambda contact, count: Cluster(
                client,
                self._leadership,
                namespaces=config.namespaces,
                on_contact=contact,
                on_request=count,
            ),
            instance=identity,
        )
        self._stop = asyncio.Event()
        self._kopf_stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            CrdMissing: the API server does not know our kinds.
            LeaseLost: another process leads.
        """
        self._take_signals()
        runtime, config = self._runtime, self._config
        app = health_app(runtime.report, runtime.metrics)
        self._start("health", serve(app, config.health_host, config.health_port, "health"))
        try:
            if await self._until_stop(self._start("start", self._prepare())):
                return
            runtime.lead()
            if self._election:
                self._start("lease", self._election.hold())
            self._start(
                "keys",
                repeat(
                    "reading the keys of service-account tokens",
                    runtime.keys.renew,
                    seconds=RENEW_SECONDS,
                ),
            )
            self._start("queue", runtime.queue.run())
            self._start("resync", runtime.resync.run())
            self._start("events", runtime.events.run())
            self._start("sweep", runtime.sweep())
            heartbeats = runtime.heartbeats.app()
            self._start(
                "heartbeats",
                serve(heartbeats, config.heartbeat_host, config.heartbeat_port, "heartbeats"),
            )
            if config.controller_port is not None:
                self._start(
                    "controller",
                    serve_controller(
                        config,
                        config.controller_port,
                        store=runtime.store,
                        registry=runtime.registry,
                        until_synced=runtime.resync.until_synced,
                        monotonic=self._clock.monotonic,
                    ),
                )
            # It ends at once where no Service is named.
            self._start("publish", keep_published(runtime.cluster, config))
            self._start("watches", self._watch())
            await self._until_stop()
        finally:
            await self._shut_down()

    async def _prepare(self) -> None:
        """Wait for the API server, and for the lease."""
        failures = 0
        missing = None
        while missing is None:
            try:
                missing = await self._runtime.cluster.missing_kinds()
            except ClusterUnavailable as error:
                failures += 1
                delay = min(5.0, backoff_seconds(failures))
                _log.warning("%s (in %.1f s)", error, delay)
                await asyncio.sleep(delay)
        if missing:
            raise CrdMissing(
                f"{self._runtime.cluster.server} does not know "
                f"{' and '.join(f'{kind.kind}s' for kind in missing)}; "
                "install the kinds with `kubectl apply -f crds/` and start again"
            )
        if self._election:
            await self._election.acquire()

    async def _watch(self) -> None:
        runtime, config = self._runtime, self._config
        ready = asyncio.Event()
        registry = handlers(
            runtime.store,
            runtime.queue.add,
            runtime.resync,
            session=runtime.cluster.watch_session,
            server=runtime.cluster.server,
            on_pod_gone=runtime.registry.forget,
        )
        pump = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=settings(),
                standalone=True,
                clusterwide=not config.namespaces,
                namespaces=config.namespaces,
                stop_flag=self._kopf_stop,
                ready_flag=ready,
            )
        )
        try:
            started = asyncio.create_task(ready.wait())
            await asyncio.wait([started, pump], return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
            # kopf puts its own handlers of signals in place while it starts.
            self._take_signals()
            await asyncio.shield(pump)
        finally:
            self._kopf_stop.set()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await pump
        self._stop.set()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def _until_stop(self, finishing: asyncio.Task[None] | None = None) -> bool:
        """Wait for a signal (True) or the end of `finishing` (False); other ends are failures."""
        stop = self._start("stop", self._stopped())
        while not stop.done():
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._tasks.remove(task)
                task.result()
            if finishing in done:
                return False
        _log.info("stopping")
        return True

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _shut_down(self) -> None:
        """Stop writing, give the lease back, close the rest; about two seconds at most."""
        self._leadership.end()
        self._kopf_stop.set()
        others = [task for task in self._tasks if task.get_name() != "watches"]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=0.3)
        if self._election:
            await self._election.release()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await self._client.close()  # type: ignore[no-untyped-call]


async def main(config: Config) -> int:
    """Run the operator; returns the exit code."""
    identity = config.identity or f"{socket.gethostname()}_{uuid.uuid4()}"
    agent = f"modelworker-operator/{version('modelworker')} ({identity})"
    try:
        await Operator(config, await connect(config, agent), identity).run()
    except OperatorError as error:
        _log.error("%s", error)
        return _EXIT_CODES.get(type(error), EXIT_FAILED)
    except Exception:
        _log.exception("the operator failed")
        return EXIT_FAILED
    return 0


def cli() -> int:
    """Read the settings and run; returns the exit code."""
    try:
        config = load_config(sys.argv[1:])
    except ValidationError as error:
        print(f"settings: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    if config.log_level != "debug":
        logging.getLogger("kopf").setLevel(logging.WARNING)
    return asyncio.run(main(config))


if __name__ == "__main__":
    sys.exit(cli())
