"""The queue opens when the store has everything, and gaps in a watch are found."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from modelworker_api import kube
from modelworker_operator.errors import ClusterUnavailable
from modelworker_operator.queue import KeyedQueue
from modelworker_operator.resources import DEPLOYMENTS, MODELWORKERS, PODS, Resource
from modelworker_operator.resync import Resync
from modelworker_operator.store import Key, Store

ONE, TWO = Key(kube.MODELWORKER, "ns", "one"), Key(kube.MODELWORKER, "ns", "two")


def raw(kind: Resource, name: str, version: int, owner: str = "one") -> dict[str, Any]:
    labels = {"modelworker.dev/kind": "ModelWorker", "modelworker.dev/name": owner}
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"{kind.plural}-{name}",
            "resourceVersion": str(version),
            "labels": labels,
        }
    }


class Api:
    """Lists what it is told to."""

    def __init__(self) -> None:
        self.listed: dict[Resource, dict[str, int]] = {}
        self.version = 100
        self.failures = 0
        self.lists = 0

    async def list_versions(self, resource: Resource) -> tuple[dict[str, int], int]:
        self.lists += 1
        if self.failures:
            self.failures -= 1
            raise ClusterUnavailable("away")
        return self.listed.get(resource, {}), self.version


class Scene:
    def __init__(self, seconds: float) -> None:
        self.api, self.store = Api(), Store()
        self.passes: list[Key] = []
        self.gone: list[str] = []

        async def handle(key: Key) -> bool:
            self.passes.append(key)
            return True

        self.queue: KeyedQueue[Key] = KeyedQueue(handle, workers=1)
        self.resync = Resync(
            self.store,
            cast("Any", self.api),
            self.queue,
            seconds=seconds,
            on_gone=self.gone.append,
        )

    def put(self, kind: Resource, name: str, version: int, owner: str = "one") -> None:
        for key in self.store.put(kind, raw(kind, name, version, owner)):
            self.queue.add(key)


@contextlib.asynccontextmanager
async def running(seconds: float = 3600) -> AsyncIterator[Scene]:
    scene = Scene(seconds)
    tasks = [asyncio.create_task(work()) for work in (scene.queue.run, scene.resync.run)]
    try:
        yield scene
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(reached: Callable[[], object]) -> None:
    for _ in range(2000):
        if reached():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not reached")


@pytest.mark.parametrize("failures", [0, 1], ids=["at-once", "after-a-failure"])
def test_no_pass_before_the_store_has_what_is_listed(failures: int) -> None:
    async def scenario() -> None:
        async with running() as scene:
            scene.api.failures = failures
            scene.api.listed = {MODELWORKERS: {"modelworkers-one": 5}, PODS: {"pods-a": 7}}
            scene.put(MODELWORKERS, "one", 5)
            scene.put(PODS, "a", 6)
            await until(lambda: scene.api.lists >= 4)
            await asyncio.sleep(0.25)
            assert (scene.passes, scene.resync.synced) == ([], False)
            scene.put(PODS, "a", 7)
            await until(lambda: scene.passes == [ONE])
            assert scene.resync.synced

    asyncio.run(scenario())


def test_without_objects_it_is_ready() -> None:
    async def scenario() -> None:
        async with running() as scene:
            await until(lambda: scene.resync.synced)

    asyncio.run(scenario())


def test_a_deletion_that_no_watch_told_is_found_after_a_gap() -> None:
    async def scenario() -> None:
        async with running() as scene:
            for kind, name, owner in (
                (MODELWORKERS, "one", ""),
                (DEPLOYMENTS, "d", "one"),
                (PODS, "p", "two"),
            ):
                scene.put(kind, name, 5, owner)
            await until(lambda: scene.resync.synced and scene.queue.idle)
            scene.passes.clear()
            scene.api.listed = {MODELWORKERS: {"modelworkers-one": 5}}
            scene.resync.want()
            await until(lambda: TWO in scene.passes and ONE in scene.passes)
            assert scene.gone == ["pods-p"]
            assert scene.store.get(DEPLOYMENTS, "ns", "d") is None
            assert scene.store.get(MODELWORKERS, "ns", "one") is not None
            assert scene.resync.behind == 0

    asyncio.run(scenario())


def test_every_object_is_looked_at_again_from_time_to_time() -> None:
    async def scenario() -> None:
        async with running(seconds=0.1) as scene:
            scene.api.listed = {MODELWORKERS: {"modelworkers-one": 5}}
            scene.put(MODELWORKERS, "one", 5)
            await until(lambda: scene.passes.count(ONE) >= 3)

    asyncio.run(scenario())
