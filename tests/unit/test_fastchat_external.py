"""Whose workers may register, and how long they stay."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelworker_api.fastchat import HeartbeatRequest, RegisterRequest, WorkerStatus
from modelworker_operator.controller.external import (
    EXPIRY_SECONDS,
    MOST_WORKERS,
    Externals,
    refusal,
)

HOSTS = ("gpu-1", "10.1.0.0/16", "192.0.2.7", "fd00::/8", "0.0.0.0/0", "::/0")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        pytest.param("http://gpu-1:21002", True, id="name"),
        pytest.param("https://GPU-1", True, id="https-without-port"),
        pytest.param("http://10.1.2.3:1", True, id="in-a-network"),
        pytest.param("http://[fd00::1]:80", True, id="v6"),
        pytest.param("http://gpu-2:21002", False, id="other-name"),
        pytest.param("http://gpu-1.evil.example", False, id="longer-name"),
        pytest.param("http://169.254.169.254", False, id="metadata"),
        pytest.param("http://[fe80::1]", False, id="link-local-v6"),
        pytest.param("http://[::ffff:169.254.169.254]", False, id="metadata-mapped"),
        pytest.param("http://2852039166", False, id="metadata-as-a-number"),
        pytest.param("http://0251.0376.0251.0376", False, id="metadata-in-octal"),
        pytest.param("ftp://gpu-1", False, id="scheme"),
        pytest.param("file:///etc/passwd", False, id="file"),
        pytest.param("gpu-1:21002", False, id="no-scheme"),
        pytest.param("http://gpu-1/", False, id="slash"),
        pytest.param("http://gpu-1/path", False, id="path"),
        pytest.param("http://gpu-1?q", False, id="query"),
        pytest.param("http://gpu-1#f", False, id="fragment"),
        pytest.param("http://u:p@gpu-1", False, id="user"),
        pytest.param("http://gpu-1:x", False, id="port-text"),
        pytest.param("http://gpu-1:99999", False, id="port-large"),
        pytest.param("http://gpu-1:0", False, id="port-0"),
        pytest.param("http://", False, id="no-host"),
        pytest.param("http://[", False, id="broken"),
        pytest.param("", False, id="empty"),
        pytest.param("http://gpu-1\n", False, id="line-break"),
    ],
)
def test_whose_workers_may_register(url: str, allowed: bool) -> None:
    assert (refusal(url, HOSTS) is None) is allowed


@dataclass
class Registration:
    """External workers, of which those in `statuses` answer."""

    hosts: tuple[str, ...] = ("gpu",)
    now: float = 0.0
    statuses: dict[str, WorkerStatus] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.externals = Externals(self.hosts, self._probe, lambda: self.now)

    async def _probe(self, url: str) -> WorkerStatus | None:
        self.asked.append(url)
        await asyncio.sleep(0)
        return self.statuses.get(url)

    def register(self, url: str, *, names: tuple[str, ...] = ("m",), **fields: Any) -> None:
        if names:
            self.statuses[url] = status(*names)
        asyncio.run(self.externals.register(RegisterRequest(worker_name=url, **fields)))

    def beat(self, url: str, queue: int = 0) -> bool:
        return self.externals.heartbeat(HeartbeatRequest(worker_name=url, queue_length=queue))

    def urls(self) -> list[str]:
        return [one.id for found in self.externals.now() for one in found.workers]


def status(*names: str, speed: int = 1, queue: int = 0) -> WorkerStatus:
    return WorkerStatus(model_names=list(names), speed=speed, queue_length=queue)


def test_a_worker_registers_and_reports() -> None:
    scene = Registration()
    assert not scene.beat("http://gpu:1")
    scene.register("http://gpu:1", names=("m", "n"), multimodal=True)
    (found,) = scene.externals.now()
    assert found.names == frozenset({"m", "n"})
    assert found.multimodal
    assert scene.beat("http://gpu:1", 7)
    (after,) = scene.externals.now()
    assert [one.load for one in after.workers] == [7]
    assert after.workers[0].report is not found.workers[0].report


def test_what_is_not_allowed_is_not_even_asked(caplog: pytest.LogCaptureFixture) -> None:
    for hosts in ((), ("gpu",)):
        scene = Registration(hosts=hosts)
        for _ in range(3):
            scene.register("http://elsewhere:1")
        assert (scene.asked, scene.urls()) == ([], [])
        warnings = [one for one in caplog.records if one.levelname == "WARNING"]
        assert len(warnings) == 1
        caplog.clear()


def test_a_worker_that_does_not_answer_is_not_registered() -> None:
    scene = Registration()
    scene.register("http://gpu:1", names=())
    assert (scene.asked, scene.urls()) == (["http://gpu:1"], [])


def test_silence_ends_a_registration_where_reports_were_promised() -> None:
    scene = Registration()
    scene.register("http://gpu:1")
    scene.register("http://gpu:2", check_heart_beat=False)
    scene.now = EXPIRY_SECONDS
    assert scene.beat("http://gpu:1")
    scene.now = 2 * EXPIRY_SECONDS
    assert scene.urls() == ["http://gpu:1", "http://gpu:2"]
    scene.now += 1
    assert scene.urls() == ["http://gpu:2"]
    assert not scene.beat("http://gpu:1")


def test_a_refresh_forgets_who_does_not_answer_and_learns_new_names() -> None:
    scene = Registration()
    scene.register("http://gpu:1")
    scene.register("http://gpu:2")
    del scene.statuses["http://gpu:1"]
    scene.statuses["http://gpu:2"] = status("other", speed=0, queue=3)
    asyncio.run(scene.externals.refresh())
    (found,) = scene.externals.now()
    assert found.names == frozenset({"other"})
    assert (found.workers[0].load, found.workers[0].speed) == (3, 1)


def test_the_number_of_workers_is_bounded() -> None:
    scene = Registration()
    for port in range(1, MOST_WORKERS + 5):
        scene.register(f"http://gpu:{port}")
    assert len(scene.urls()) == MOST_WORKERS
    scene.register("http://gpu:1", names=("again",))
    assert len(scene.asked) == MOST_WORKERS + 1


def test_a_flood_of_registrations_is_no_flood_of_probes() -> None:
    scene = Registration()

    async def flood() -> None:
        await asyncio.gather(
            *(
                scene.externals.register(RegisterRequest(worker_name=f"http://gpu:{port}"))
                for port in range(1, 41)
            )
        )

    asyncio.run(flood())
    assert len(scene.asked) == 8
