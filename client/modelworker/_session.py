"""Everything a client keeps for one event loop, and the way of one call to a worker."""

import asyncio
import os
import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from modelworker import _errors, _http, _json, _progress, _tokens
from modelworker._answers import Answer
from modelworker._batch import Gate
from modelworker._connections import Connections
from modelworker._endpoints import Endpoints, Given, Watched
from modelworker._retry import pause_before_retry
from modelworker._routing import Balancer
from modelworker._settings import Settings
from modelworker._tokens import NoToken
from modelworker._ways import Direct, InCluster, Ways

IN_FLIGHT_PER_WORKER: Final = 64
TOKENS_IN_FLIGHT_PER_WORKER: Final = 49_152
"""Estimated tokens of scoring requests under way: enough for a worker to have the next one
at hand, and so few that the last of them is not late."""
GIVEN_CONTACT_SECONDS: Final = 10.0
"""How long workers that the caller named are tried when none has ever answered."""

T = TypeVar("T")


class Session:
    """Endpoints, connections and counts; lives and dies with one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        endpoints: Endpoints | None = None,
        pool: Connections | None = None,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        if endpoints is None or pool is None:
            found, ways = _found(settings)
            endpoints, pool = endpoints or found, pool or _http.Pool(ways)
        self._endpoints = endpoints
        self._pool = pool
        self._luck = luck
        self._balancer = Balancer(self._loop.time, luck)
        self._answered = False
        self._first_wait = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.gate = Gate(self._limit)
        self.token_gate = Gate(lambda: TOKENS_IN_FLIGHT_PER_WORKER * self._known_workers())

    @property
    def model(self) -> str:
        """The model name that requests carry; complete once `ready` has returned."""
        return self._endpoints.model

    @property
    def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers, as known now."""
        return self._endpoints.workers

    @property
    def in_flight(self) -> dict[str, int]:
        """Calls under way by worker."""
        return dict(self._balancer.outstanding)

    async def ready(self) -> None:
        """Wait for the first ready worker, with progress; later calls return at once.

        Raises:
            ModelWorkerError: what `Endpoints.ready` raises.
        """
        if self._answered or self._endpoints.workers:
            return
        until = self._loop.time() + self._settings.ready_timeout
        async with self._first_wait:
            with _progress.waiting(self._settings.name, self._settings.progress) as show:
                await self._endpoints.ready(until, show)

    def until(self, timeout: float) -> float:
        """The deadline of a call that starts now, on the event loop's clock."""
        return self._loop.time() + timeout

    async def post(
        self, path: str, body: dict[str, Any], until: float, affinity: str | None = None
    ) -> Answer:
        """The answer of some worker to a request; of the key's own one while that has room.

        Raises:
            ModelWorkerError: what the request ended with after all retries.
        """
        content = _json.encode(body)

        async def exchange(worker: str) -> Answer:
            with self._under_way(worker):
                answer = await self._pool.post(worker, path, content)
                self._balancer.report(worker, answer.load)
                return answer

        return await self._on_a_worker(exchange, until, affinity)

    @asynccontextmanager
    async def stream(
        self, path: str, body: dict[str, Any], timeout: float, affinity: str | None = None
    ) -> AsyncIterator[AsyncGenerator[Answer, None]]:
        """The events of a streamed answer; the first one has come from some worker.

        A worker whose stream breaks is avoided for a while, as one that cannot be reached.

        `timeout` bounds the wait for the first event, then that for each further one.

        Raises:
            ModelWorkerError: what the request ended with after all retries.
        """
        content = _json.encode(body)

        async def exchange(
            worker: str,
        ) -> tuple[Answer | None, AsyncIterator[Answer], AsyncExitStack]:
            async with AsyncExitStack() as stack:
                stack.enter_context(self._under_way(worker))
                events = await stack.enter_async_context(self._pool.stream(worker, path, content))
                first = await anext(events, None)
                if first is not None:
                    self._balancer.report(worker, first.load)
                return first, events, stack.pop_all()

        first, events, stack = await self._on_a_worker(exchange, self.until(timeout), affinity)
        async with stack:
            yield self._paced(first, events, timeout)

    async def _paced(
        self, first: Answer | None, events: AsyncIterator[Answer], timeout: float
    ) -> AsyncGenerator[Answer, None]:
        event = first
        while event is not None:
            yield event
            try:
                async with asyncio.timeout_at(self.until(timeout)):
                    event = await anext(events, None)
            except TimeoutError as error:
                raise _timed_out("the worker") from error
            except _errors.Unavailable as error:
                if error.worker is not None:
                    self._balancer.unreachable(error.worker)
                raise

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do work in the background until it is done or the session is closed."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End the background's work, stop following the workers and close every connection."""
        if tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._endpoints.aclose()
        await self._pool.aclose()

    def close_soon(self) -> None:
        """Close from any thread, without waiting; in a forked child nothing is ours."""
        if self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._start_closing)

    def _start_closing(self) -> None:
        self._closing = self._loop.create_task(self.aclose())

    def _limit(self) -> int:
        return self._settings.max_in_flight or IN_FLIGHT_PER_WORKER * self._known_workers()

    def _known_workers(self) -> int:
        return max(1, len(self._endpoints.workers))

    @contextmanager
    def _under_way(self, worker: str) -> Iterator[None]:
        self._balancer.begin(worker)
        try:
            yield
        finally:
            self._balancer.end(worker)

    # --- retries ---------------------------------------------------------------------

    async def _on_a_worker(
        self, exchange: Callable[[str], Awaitable[T]], until: float, affinity: str | None
    ) -> T:
        """Try workers until one answers, the deadline passes, or an error is final."""
        started = self._loop.time()
        tried: dict[str, _errors.ModelWorkerError] = {}
        attempts = rounds = 0
        while True:
            candidates = self._candidates(tried)
            if not candidates:
                tried.clear()
                await self._endpoints.ready(self._gives_up(started, until))
                continue
            worker = self._balancer.pick(candidates, affinity)
            attempts += 1
            try:
                async with asyncio.timeout_at(until):
                    result = await exchange(worker)
            except _errors.ModelWorkerError as error:
                tried[worker] = error
                if isinstance(error, _errors.Unreachable):
                    self._balancer.unreachable(worker)
                elif isinstance(error, _errors.Overloaded) and error.retry_after:
                    self._balancer.turned_away(worker, error.retry_after)
                others = bool(self._candidates(tried))
                pause = pause_before_retry(
                    error,
                    round_=rounds,
                    others_left=others,
                    remaining=self._patience(error, started, until) - self._loop.time(),
                    luck=self._luck(),
                )
                if pause is None:
                    if error.retryable:
                        error.add_note(_effort(attempts, self._loop.time() - started))
                    raise
                if not others:
                    rounds += 1
                    tried.clear()
                    await asyncio.sleep(pause)
            except TimeoutError as error:
                raise _timed_out(f"worker {worker}") from error
            else:
                self._answered = True
                self._balancer.reached(worker)
                return result

    def _candidates(self, tried: Mapping[str, _errors.ModelWorkerError]) -> list[str]:
        """Workers not tried yet; the Service when none of them could be reached directly."""
        workers, service = self._endpoints.workers, self._endpoints.service
        left = [worker for worker in workers if worker not in tried]
        if left or not service or service in tried or not workers:
            return left
        reachable = not all(isinstance(tried[w], _errors.Unreachable) for w in workers)
        return [] if reachable else [service]

    def _patience(self, error: _errors.ModelWorkerError, started: float, until: float) -> float:
        """The deadline, or sooner where a mistyped URL is likelier than a restart."""
        strangers = self._endpoints.given and not self._answered
        if strangers and isinstance(error, _errors.Unreachable):
            until = min(until, started + GIVEN_CONTACT_SECONDS)
        return self._gives_up(started, until)

    def _gives_up(self, started: float, until: float) -> float:
        """When to wait no longer for a worker that takes the call: sooner if another LM will."""
        patience = self._settings.patience()
        return until if patience is None else min(until, started + patience)


def _found(settings: Settings) -> tuple[Endpoints, Ways]:
    """Where the workers are, and how they are reached."""
    tokens = _tokens.chosen(settings)
    if settings.endpoints is not None:
        return Given(settings), Direct(tokens or NoToken())
    watched = Watched(settings)
    return watched, InCluster(settings, watched, tokens=tokens)


def _effort(attempts: int, elapsed: float) -> str:
    return f"gave up after {attempts} attempts in {elapsed:.1f} s"


def _timed_out(where: str) -> _errors.CallTimeout:
    return _errors.CallTimeout(
        f"{where} had not answered when the call's time was over; "
        "raise timeout, ask for less at once, or add replicas with `kubectl scale`"
    )
