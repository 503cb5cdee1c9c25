"""Following a ModelWorker, against a cluster that a test plays."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from modelworker import (
    AccessDenied,
    ClusterUnavailable,
    ModelWorkerError,
    ModelWorkerNotFound,
    NoCluster,
    NotReady,
    Rejected,
    _endpoints,
)
from modelworker._endpoints import Watched
from modelworker._errors import Expired
from modelworker._kube import Event
from modelworker._settings import Settings
from modelworker_api import kube
from tests.client_support import until

DOWN = ClusterUnavailable("the API server https://h does not answer: refused")


def body(*ready: str, generation: int = 1, **status: Any) -> dict[str, Any]:
    workers = [{"pod": ip, "address": f"{ip}:8000", "state": "Ready"} for ip in ready]
    return {
        "metadata": {"generation": generation},
        "status": {"workers": workers, "url": "http://svc", **status},
    }


def conditions(kind: str, reason: str, message: str) -> dict[str, Any]:
    condition = {"type": kind, "status": "False", "reason": reason, "message": message}
    return {"conditions": [condition]}


@dataclass
class PlayedCluster:
    """Answers from `listed`; its watches give what `feed` holds, errors are raised."""

    listed: Mapping[str, Any] | ModelWorkerError | None
    known: list[str] | ModelWorkerError = field(default_factory=list)
    in_cluster: bool = False
    namespace: str = "ns"
    server: str = "https://h"
    feed: asyncio.Queue[Event | ModelWorkerError | None] = field(default_factory=asyncio.Queue)
    lists: int = 0
    watched_from: list[str] = field(default_factory=list)
    open: int = 0

    async def connect(self, _: Settings) -> Any:
        self.open += 1
        return self

    async def aclose(self) -> None:
        self.open -= 1

    async def read(self, name: str) -> tuple[Mapping[str, Any] | None, str]:
        self.lists += 1
        if isinstance(self.listed, ModelWorkerError):
            raise self.listed
        return self.listed, f"list-{self.lists}"

    async def names(self) -> list[str]:
        if isinstance(self.known, ModelWorkerError):
            raise self.known
        return self.known

    async def watch(self, name: str, version: str) -> AsyncGenerator[Event, None]:
        self.watched_from.append(version)
        while (event := await self.feed.get()) is not None:
            if isinstance(event, ModelWorkerError):
                raise event
            yield event


def follow(
    scenario: Callable[[PlayedCluster, Watched], Coroutine[Any, Any, None]],
    listed: Mapping[str, Any] | ModelWorkerError | None,
    kind: kube.Kind = kube.MODELWORKER,
    **more: Any,
) -> None:
    """Run a scenario, and see that nothing is left open after it."""

    async def run() -> None:
        cluster = PlayedCluster(listed, **more)
        settings = Settings("policy", kind=kind)
        endpoints = Watched(settings, connect=cluster.connect, luck=lambda: 0.0)
        try:
            await scenario(cluster, endpoints)
        finally:
            await endpoints.aclose()
        assert cluster.open == 0

    asyncio.run(run())


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_ready_workers_are_known_after_one_list() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        assert endpoints.workers == ("http://10.0.0.1:8000",)
        assert endpoints.model == "ns/policy"
        assert endpoints.service is None, "only pods can use the Service"
        for _ in range(10):
            await endpoints.ready(soon())
        assert cluster.lists == 1

    follow(scenario, body("10.0.0.1"))


def test_inside_the_cluster_the_service_is_a_way_too() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        assert endpoints.service == "http://svc"

    follow(scenario, body("10.0.0.1"), in_cluster=True)


def test_changes_are_followed_and_the_watch_resumes_where_it_was() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        cluster.feed.put_nowait(Event("7", body("10.0.0.2")))
        await until(lambda: endpoints.workers == ("http://10.0.0.2:8000",))
        cluster.feed.put_nowait(Event("9"))
        cluster.feed.put_nowait(None)
        await until(lambda: len(cluster.watched_from) == 2)
        assert cluster.watched_from == ["list-1", "9"]
        assert cluster.lists == 1

    follow(scenario, body("10.0.0.1"))


def test_an_expired_version_lists_again() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        cluster.listed = body("10.0.0.3")
        cluster.feed.put_nowait(Expired("too old"))
        await until(lambda: endpoints.workers == ("http://10.0.0.3:8000",))
        assert cluster.lists == 2

    follow(scenario, body("10.0.0.1"))


def test_known_workers_stay_while_the_api_server_is_away() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        for error in (DOWN, AccessDenied("expired token")):
            cluster.feed.put_nowait(error)
        await until(lambda: len(cluster.watched_from) == 3)
        await endpoints.ready(soon())
        assert endpoints.workers == ("http://10.0.0.1:8000",)
        cluster.feed.put_nowait(Event("9", body("10.0.0.2")))
        await until(lambda: endpoints.workers == ("http://10.0.0.2:8000",))

    follow(scenario, body("10.0.0.1"))


def test_waiting_shows_and_ends_with_the_words_of_the_ready_condition() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        shown: list[tuple[str, int | None]] = []
        with pytest.raises(NotReady, match=r"ns/policy has no ready worker: Loading: pod a loads"):
            await endpoints.ready(soon(0.05), lambda *what: shown.append(what))
        assert shown[0] == ("Loading: pod a loads", 40)

    loading = body(**conditions("Ready", "Loading", "pod a loads"))
    loading["status"]["workers"] = [{"pod": "a", "state": "Loading", "progress": 40}]
    follow(scenario, loading)


def test_a_wait_ends_when_a_worker_becomes_ready() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        waits = [asyncio.create_task(endpoints.ready(soon())) for _ in range(3)]
        await until(lambda: cluster.lists == 1)
        assert not any(wait.done() for wait in waits)
        cluster.feed.put_nowait(Event("7", body("10.0.0.1")))
        await asyncio.gather(*waits)
        assert cluster.lists == 1

    follow(scenario, body())


@pytest.mark.parametrize(
    ("listed", "known", "kind", "words"),
    [
        pytest.param(
            None,
            ["critic", "reward"],
            ModelWorkerNotFound,
            "there are: critic, reward",
            id="missing",
        ),
        pytest.param(None, [], ModelWorkerNotFound, "there are none", id="missing-and-none"),
        pytest.param(
            None, AccessDenied("x"), ModelWorkerNotFound, "could not be read", id="names-forbidden"
        ),
        pytest.param(AccessDenied("no list"), [], AccessDenied, "no list", id="forbidden"),
        pytest.param(NoCluster("none"), [], NoCluster, "none", id="no-cluster"),
        pytest.param(
            body(**conditions("Accepted", "InvalidSpec", "no source")),
            [],
            Rejected,
            "InvalidSpec: no source",
            id="rejected",
        ),
    ],
)
def test_what_waiting_cannot_help_fails_at_once(
    listed: Any, known: Any, kind: type[Exception], words: str
) -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        async with asyncio.timeout(2):
            for _ in range(2):
                with pytest.raises(kind, match=words):
                    await endpoints.ready(soon(600))

    follow(scenario, listed, known=known)


@pytest.mark.parametrize("kind", kube.KINDS, ids=lambda kind: kind.short)
@pytest.mark.parametrize(
    ("listed", "words"),
    [
        pytest.param(None, "no {kind} 'policy' .*`kubectl get {short} -n ns`", id="missing"),
        pytest.param(
            body(**conditions("Accepted", "InvalidSpec", "no source")),
            "^{kind} ns/policy is not accepted",
            id="rejected",
        ),
        pytest.param(
            body(**conditions("Ready", "Loading", "pod a loads")),
            "^{kind} ns/policy has no ready worker: .*`kubectl describe {short} policy -n ns`",
            id="not-ready",
        ),
    ],
)
def test_errors_name_the_kind_and_its_short_name(listed: Any, words: str, kind: kube.Kind) -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        with pytest.raises(ModelWorkerError, match=words.format(**asdict(kind))):
            await endpoints.ready(soon(0.02))

    follow(scenario, listed, kind)


def test_an_object_that_appears_after_a_failure_is_found_by_the_next_call() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        with pytest.raises(ModelWorkerNotFound):
            await endpoints.ready(soon())
        cluster.listed = body("10.0.0.1")
        await endpoints.ready(soon())
        assert endpoints.workers == ("http://10.0.0.1:8000",)

    follow(scenario, None)


def test_a_deleted_object_has_no_workers() -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        await endpoints.ready(soon())
        cluster.listed = None
        cluster.feed.put_nowait(Event("8", body("10.0.0.1"), deleted=True))
        await until(lambda: not endpoints.workers)
        with pytest.raises(ModelWorkerNotFound):
            await endpoints.ready(soon())

    follow(scenario, body("10.0.0.1"))


def test_a_first_contact_that_fails_is_tried_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(cluster: PlayedCluster, endpoints: Watched) -> None:
        with pytest.raises(ClusterUnavailable, match="refused"):
            await endpoints.ready(soon(600))
        assert cluster.lists > 1
        cluster.listed = body("10.0.0.1")
        await endpoints.ready(soon(600))

    monkeypatch.setattr(_endpoints, "FIRST_CONTACT_SECONDS", 0.4)
    follow(scenario, DOWN)
