"""One container: started, probed, ended, started again."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelworker_devcluster.kubelet.api import ApiError, Object
from modelworker_devcluster.kubelet.backoff import Backoff
from modelworker_devcluster.kubelet.checkup import Checkup, Failed
from modelworker_devcluster.kubelet.context import PodContext
from modelworker_devcluster.kubelet.environment import ConfigError
from modelworker_devcluster.kubelet.launch import ImageError, Launch, prepare
from modelworker_devcluster.kubelet.probes import ProbeFailure
from modelworker_devcluster.kubelet.process import Process, StartError
from modelworker_devcluster.kubelet.status import (
    ContainerRecord,
    Running,
    Terminated,
    Waiting,
    should_restart,
)

_CONFIG_RETRY_SECONDS = 2.0
_ERROR_RETRY_SECONDS = 10.0
_SHORTEST_GRACE = 2.0
_PULL_SECONDS = 1.0
_START_FAILED = 128
_NO_LIMIT = float("inf")
_log = logging.getLogger(__name__)


class Container:
    """Runs one container of a pod until it is not to be started again.

    Attributes:
        record: what is known about it; `changed` is called after every change.
    """

    def __init__(
        self,
        context: PodContext,
        record: ContainerRecord,
        *,
        init: bool,
        changed: Callable[[], None],
    ) -> None:
        self.record = record
        self._context = context
        self._init = init
        self._changed = changed
        self._stop = asyncio.Event()
        self._replaced = asyncio.Event()  # the pod object says something else now
        self._grace = _NO_LIMIT
        self._hooks = True
        self._limit: asyncio.Timeout | None = None
        base = context.node.settings.backoff_seconds
        self._crashes = Backoff(base)
        self._pulls = Backoff(base)

    async def run(self) -> None:
        """Run the container as often as its pod's restart policy says, or until `stop`."""
        while not self._stop.is_set() and self._is_due():
            try:
                await self._run_once()
            except Exception as error:
                _log.exception("container %s", self._title)
                self._set(state=Waiting("RunContainerError", str(error)))
                await self._pause(_ERROR_RETRY_SECONDS)

    def stop(self, grace: float, *, hooks: bool = True) -> None:
        """End the container within `grace` seconds; called again, it can only get less.

        Args:
            grace: seconds from now, the time of the preStop hook included.
            hooks: whether to run the preStop hook.
        """
        self._grace = min(self._grace, grace)
        self._hooks = hooks
        self._stop.set()
        if self._limit is not None and not self._limit.expired():
            until = asyncio.get_running_loop().time() + max(_SHORTEST_GRACE, grace)
            self._limit.reschedule(min(until, self._limit.when() or until))

    def restart(self) -> None:
        """End the container and start it from the pod object as it is now."""
        self._replaced.set()

    @property
    def _spec(self) -> Object:
        return self._context.container(self.record.name)

    @property
    def _policy(self) -> str:
        return str(self._context.pod["spec"].get("restartPolicy", "Always"))

    @property
    def _title(self) -> str:
        metadata = self._context.pod["metadata"]
        pod = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        return f"{self.record.name} pod={pod}"

    def _set(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self._changed()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _warn(self, reason: str, message: str) -> None:
        await self._context.node.events.warn(
            self._context.pod, reason, message, container=self.record.name
        )

    def _is_due(self) -> bool:
        state = self.record.state
        if not isinstance(state, Terminated):
            return True
        return should_restart(self._policy, state.exit_code, init=self._init)

    async def _run_once(self) -> None:
        launch = await self._launch()
        if launch is None:
            return
        before = self.record.state
        if isinstance(before, Terminated):
            self._set(last=before, restarts=self.record.restarts + 1)
        elif self.record.last is not None:
            self._set(restarts=self.record.restarts + 1)
        clock = self._context.node.clock
        started_at = clock()
        container_id = f"process://{uuid.uuid4()}"
        self._set(container_id=container_id, image=self._spec["image"])
        self._replaced.clear()
        launch.clean()
        try:
            process = await Process.start(
                launch.target.command, log=launch.log, pid_file=launch.pid_file
            )
        except StartError as error:
            code, reason, message = _START_FAILED, "StartError", str(error)
        else:
            try:
                code = await self._attend(process, launch)
            finally:
                process.kill()
                await process.wait()
            reason, message = "Completed" if code == 0 else "Error", launch.last_words(code)
        outcome = Terminated(code, reason, message, started_at, clock(), container_id)
        self._set(state=outcome, ready=False, started=False)
        if self._is_due():
            await self._back_off(outcome)

    async def _launch(self) -> Launch | None:
        """The container ready to start, as soon as it can; None when it is stopped before."""
        while not self._stop.is_set():
            try:
                return await prepare(self._context, self.record.name)
            except ImageError as error:
                await self._image_missing(str(error))
            except (ConfigError, ApiError) as error:
                self._wait("CreateContainerConfigError", str(error))
                await self._warn("Failed", f"Error: {error}")
                await self._pause(_CONFIG_RETRY_SECONDS)
        return None

    async def _image_missing(self, message: str) -> None:
        image = self._spec["image"]
        if self._spec.get("imagePullPolicy") == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            self._wait("ErrImageNeverPull", message)
            await self._pause(_ERROR_RETRY_SECONDS)
            return
        self._wait("ErrImagePull", message)
        await self._warn("Failed", f"Error: ErrImagePull: {message}")
        await self._pause(_PULL_SECONDS)
        self._pulls = self._pulls.failed(0.0)
        self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": {message}')
        await self._pause(self._pulls.delay or self._pulls.base)

    async def _back_off(self, outcome: Terminated) -> None:
        ran = (outcome.finished_at - outcome.started_at).total_seconds()
        self._crashes = self._crashes.failed(ran)
        delay = self._crashes.delay
        if delay:
            message = f"back-off {delay:g}s restarting failed container={self._title}"
            self._wait("CrashLoopBackOff", message)
            await self._warn("BackOff", message)
            await self._pause(delay)

    def _wait(self, reason: str, message: str) -> None:
        """Record that the container waits; what it ended with is kept as its last state."""
        last = self.record.state if isinstance(self.record.state, Terminated) else self.record.last
        self._set(state=Waiting(reason, message), last=last)

    async def _attend(self, process: Process, launch: Launch) -> int:
        """Watch over the running process to its end, which this may bring about."""
        context, spec = self._context, self._spec
        checkup = Checkup(
            context.node.prober, spec, launch.target, report=self._set, warn=self._warn
        )
        exited = asyncio.create_task(process.wait())
        alive = asyncio.create_task(self._started_and_alive(launch, checkup))
        ready = asyncio.create_task(checkup.ready())
        stopped = asyncio.create_task(self._stop.wait())
        replaced = asyncio.create_task(self._replaced.wait())
        tasks = (exited, alive, ready, stopped, replaced)
        try:
            await asyncio.wait(
                {exited, alive, stopped, replaced}, return_when=asyncio.FIRST_COMPLETED
            )
            if not exited.done():
                # Readiness is asked to the very end, liveness is not.
                failed = alive.result() if alive.done() else None
                alive.cancel()
                grace = min(self._grace, context.grace_seconds)
                if not stopped.done():
                    what = failed.what if failed is not None else "definition changed"
                    await self._warn(
                        "Killing", f"Container {spec['name']} {what}, will be restarted"
                    )
                    if failed is not None and failed.grace is not None:
                        grace = failed.grace
                await self._end(process, exited, launch, grace)
            return await exited
        finally:
            for task in tasks:
                task.cancel()

    async def _started_and_alive(self, launch: Launch, checkup: Checkup) -> Failed:
        if hook := self._spec.get("lifecycle", {}).get("postStart"):
            try:
                await self._context.node.prober.act(hook, launch.target, timeout=_NO_LIMIT)
            except ProbeFailure as error:
                await self._warn("FailedPostStartHook", f"PostStartHook failed: {error}")
                return Failed("failed its postStart hook", None)
        self._set(state=Running(self._context.node.clock()))
        return await checkup.alive()

    async def _end(
        self, process: Process, exited: "asyncio.Task[int]", launch: Launch, grace: float
    ) -> None:
        """PreStop hook and SIGTERM within the grace period, SIGKILL after it."""
        told = False
        try:
            async with asyncio.timeout(max(_SHORTEST_GRACE, grace)) as self._limit:
                await self._pre_stop(exited, launch)
                process.terminate()
                told = True
                await asyncio.wait({exited})
        except TimeoutError:
            if not told:
                process.terminate()
                await asyncio.wait({exited}, timeout=_SHORTEST_GRACE)
            process.kill()
            await asyncio.wait({exited})
        finally:
            self._limit = None

    async def _pre_stop(self, exited: "asyncio.Task[int]", launch: Launch) -> None:
        hook = self._spec.get("lifecycle", {}).get("preStop")
        if not hook or not self._hooks:
            return
        act = self._context.node.prober.act(hook, launch.target, timeout=_NO_LIMIT)
        running = asyncio.create_task(act)
        try:
            await asyncio.wait({running, exited}, return_when=asyncio.FIRST_COMPLETED)
            if running.done() and (error := running.exception()) is not None:
                await self._warn("FailedPreStopHook", f"PreStopHook failed: {error}")
        finally:
            running.cancel()
