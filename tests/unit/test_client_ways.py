"""How requests get to workers, directly or through the API server; no network."""

import asyncio
import logging

import pytest

from modelworker import Unreachable
from modelworker import _settings as settings_module
from modelworker._endpoints import Home
from modelworker._probe import Seen, best
from modelworker._settings import Access
from modelworker._way import Way
from tests.client_ways import OTHER, PROXIED, SERVER, WORKER, World, run


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings_module.ENV_ACCESS, raising=False)
    monkeypatch.delenv(settings_module.ENV_SERVICE_ACCOUNT, raising=False)


SILENT: dict[str, Seen] = {}
ANSWERS = {OTHER: Seen.ANSWERS}
REFUSES = {WORKER: Seen.REFUSES}


@pytest.mark.parametrize(
    ("access", "in_cluster", "seen", "url", "looks"),
    [
        pytest.param(None, False, ANSWERS, WORKER, 2, id="auto-outside-that-reaches-one"),
        pytest.param(None, False, SILENT, PROXIED, 2, id="auto-outside-that-reaches-none"),
        pytest.param(None, False, REFUSES, PROXIED, 2, id="auto-outside-and-refused"),
        pytest.param("auto", True, SILENT, WORKER, 0, id="auto-in-a-pod"),
        pytest.param("direct", False, SILENT, WORKER, 0, id="direct"),
        pytest.param("proxy", False, ANSWERS, PROXIED, 0, id="proxy"),
        pytest.param("proxy", True, ANSWERS, PROXIED, 0, id="proxy-in-a-pod"),
    ],
)
def test_the_way_is_chosen_once(
    access: Access | None,
    in_cluster: bool,
    seen: dict[str, Seen],
    url: str,
    looks: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(world: World) -> None:
        world.found.home = Home(SERVER, "ns", in_cluster)
        world.network.seen = seen
        ways = world.ways(access)
        found = await asyncio.gather(*(ways.to(WORKER) for _ in range(8)))
        assert {way.url for way in found} == {url}
        assert {way.worker for way in found} == {WORKER}
        assert len(world.network.looks) == looks
        await ways.aclose()
        assert world.cluster.opened == world.cluster.closed == int(url == PROXIED)

    with caplog.at_level(logging.INFO, logger="modelworker"):
        run(scenario)
    words = "directly" if url == WORKER else "through the API server"
    assert [record.message for record in caplog.records] == [
        f"workers of policy are called {words}"
    ]


def test_what_is_shown_on_each_way() -> None:
    async def scenario(world: World) -> None:
        direct = await world.ways("direct").to(WORKER)
        assert direct.headers == ((b"authorization", b"Bearer mine"),)
        through = world.ways("proxy")
        proxied = await through.to(WORKER)
        assert proxied.headers == ((b"authorization", b"Bearer admin"), (b"x-api-key", b"mine"))
        assert proxied.lanes is (await through.to(OTHER)).lanes, "one server, one set"
        assert "mine" not in repr((direct, proxied))
        assert "admin" not in repr((direct, proxied))
        assert (await world.ways("direct", token=None).to(WORKER)).headers == ()

    run(scenario)


@pytest.mark.parametrize(
    ("before", "after", "url"),
    [
        pytest.param(ANSWERS, SILENT, PROXIED, id="the-network-is-gone"),
        pytest.param(ANSWERS, REFUSES, WORKER, id="the-worker-restarts"),
        pytest.param(SILENT, ANSWERS, WORKER, id="the-network-is-back"),
    ],
)
def test_a_lost_worker_makes_it_look_again(
    before: dict[str, Seen], after: dict[str, Seen], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelworker._ways.LOOK_SECONDS", 0.0)

    async def scenario(world: World) -> None:
        world.network.seen = before
        ways = world.ways()
        way = await ways.to(WORKER)
        world.network.seen = after
        assert await ways.to(WORKER) is way
        ways.lost(way)
        assert (await ways.to(WORKER)).url == url
        await ways.aclose()

    run(scenario)


@pytest.mark.parametrize("access", ["direct", "proxy"])
def test_a_way_that_the_caller_chose_stays(access: Access) -> None:
    async def scenario(world: World) -> None:
        ways = world.ways(access)
        way = await ways.to(WORKER)
        ways.lost(way)
        assert await ways.to(WORKER) is way
        assert not world.network.looks

    run(scenario)


def test_a_worker_that_has_left_the_list_has_no_way_through_the_api_server() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(Unreachable, match="no longer one of the ready ones"):
            await world.ways("proxy").to("http://10.0.0.9:8000")

    run(scenario)


def test_one_that_answers_ends_the_looking() -> None:
    async def scenario() -> None:
        async def probe(worker: str) -> Seen:
            if worker == WORKER:
                return Seen.ANSWERS
            await asyncio.sleep(600)
            return Seen.SILENT

        assert await best([OTHER, WORKER], probe) is Seen.ANSWERS
        assert await best([], probe) is Seen.SILENT

    asyncio.run(scenario())


def test_a_way_does_not_tell_what_it_shows() -> None:
    way = Way(WORKER, WORKER, ((b"authorization", b"Bearer secret"),), "secret")
    assert "secret" not in repr(way)
