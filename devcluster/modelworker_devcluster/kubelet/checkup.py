"""The probes of one running container."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from modelworker_devcluster.kubelet.api import Object
from modelworker_devcluster.kubelet.probes import ProbeFailure, Prober, Target, Verdict


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a container must be ended, and the probe's own grace period, if it has one."""

    what: str
    grace: float | None


class Checkup:
    """Asks a container its probes from the moment it runs."""

    def __init__(
        self,
        prober: Prober,
        container: Object,
        target: Target,
        *,
        report: Callable[..., None],
        warn: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """Begin now.

        Args:
            prober: carries out the probes.
            container: the container's specification.
            target: how to reach it.
            report: is told `ready=` and `started=` when they change.
            warn: records an Event with a reason and a message.
        """
        self._prober = prober
        self._container = container
        self._target = target
        self._report = report
        self._warn = warn
        self._began = time.monotonic()
        self._started = asyncio.Event()

    async def alive(self) -> Failed:
        """Ask the startup probe until it succeeds, then the liveness probe until it fails."""
        if startup := self._container.get("startupProbe"):
            async for verdict in self._verdicts("Startup", startup, good=True):
                if not verdict.good:
                    return _failed("startup", startup)
                if verdict.run == 0:
                    break
        self._report(started=True, ready="readinessProbe" not in self._container)
        self._started.set()
        if liveness := self._container.get("livenessProbe"):
            async for verdict in self._verdicts("Liveness", liveness, good=True):
                if not verdict.good:
                    return _failed("liveness", liveness)
        await asyncio.Event().wait()
        raise AssertionError

    async def ready(self) -> None:
        """Ask the readiness probe for ever, once the container has started."""
        await self._started.wait()
        if readiness := self._container.get("readinessProbe"):
            async for verdict in self._verdicts("Readiness", readiness, good=False):
                self._report(ready=verdict.good)

    async def _verdicts(self, kind: str, probe: Object, *, good: bool) -> AsyncIterator[Verdict]:
        delay = self._began + probe.get("initialDelaySeconds", 0) - time.monotonic()
        await asyncio.sleep(max(0.0, delay))
        verdict = Verdict(good)
        while True:
            try:
                await self._prober.act(probe, self._target, timeout=probe.get("timeoutSeconds", 1))
                answer = True
            except ProbeFailure as failure:
                answer = False
                await self._warn("Unhealthy", f"{kind} probe failed: {failure}")
            verdict = verdict.after(
                answer,
                success_threshold=probe.get("successThreshold", 1),
                failure_threshold=probe.get("failureThreshold", 3),
            )
            yield verdict
            await asyncio.sleep(probe.get("periodSeconds", 10))


def _failed(kind: str, probe: Object) -> Failed:
    grace: Any = probe.get("terminationGracePeriodSeconds")
    return Failed(f"failed {kind} probe", None if grace is None else float(grace))
