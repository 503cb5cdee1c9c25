"""Heartbeats: what is sent, how often, and that no failure ends them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelworker_api import kube, wire
from modelworker_api.adapters import Adapter
from modelworker_server.heartbeat import Heartbeats
from modelworker_server.lifecycle import Lifecycle

Answer = Callable[[httpx.Request], httpx.Response]
OK = httpx.Response(200, json={"interval_seconds": 10})


class Operator:
    """Answers from a list, the last answer for ever, and keeps what it was sent."""

    def __init__(self, answers: Sequence[httpx.Response | Exception]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def states(self) -> list[str]:
        return [wire.Heartbeat.model_validate_json(r.content).state for r in self.requests]


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still but for jumps to the next timer: minutes take no time."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            when = self._scheduled[0]._when  # type: ignore[attr-defined]
            self._now = max(when, self._now)
        super()._run_once()  # type: ignore[misc]


def beating(
    operator: Operator,
    script: Callable[[Lifecycle, Heartbeats], Any],
    *,
    token_file: Path | None = None,
    random: float = 0.5,
    want: Callable[[Sequence[Adapter]], None] = lambda _: None,
    trust: Callable[[wire.Trust], None] = lambda _: None,
) -> None:
    """Run heartbeats every 10 s beside a script, until the script ends."""

    async def run() -> None:
        lifecycle = Lifecycle()
        async with httpx.AsyncClient(transport=httpx.MockTransport(operator)) as client:
            heartbeats = Heartbeats(
                client,
                url="http://operator:8085/",
                token_file=token_file,
                interval=10,
                lifecycle=lifecycle,
                beat=lambda: wire.Heartbeat(state=lifecycle.state, progress=lifecycle.progress),
                want=want,
                trust=trust,
                random=lambda: random,
            )
            task = asyncio.create_task(heartbeats.run())
            await script(lifecycle, heartbeats)
            assert not task.done(), "the heartbeats ended"
            task.cancel()

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(run())


def gaps(operator: Operator) -> list[float]:
    times = operator.times
    return [round(later - earlier, 1) for earlier, later in pairwise(times)]


async def a_minute(lifecycle: Lifecycle, heartbeats: Heartbeats) -> None:
    await asyncio.sleep(55)


def test_a_heartbeat_says_how_the_worker_is_with_the_token_of_now(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    operator = Operator([OK])

    async def script(lifecycle: Lifecycle, heartbeats: Heartbeats) -> None:
        await asyncio.sleep(5)
        token.write_text("second\n")
        lifecycle.report(wire.LoadState.DOWNLOADING, 30)
        await asyncio.sleep(1)

    beating(operator, script, token_file=token)
    first, second = operator.requests
    assert str(second.url) == f"http://operator:8085{kube.HEARTBEAT_PATH}"
    assert first.headers["authorization"] == "Bearer first"
    assert second.headers["authorization"] == "Bearer second"
    assert wire.Heartbeat.model_validate_json(second.content) == wire.Heartbeat(
        state=wire.LoadState.DOWNLOADING, progress=30
    )


@pytest.mark.parametrize(
    ("random", "interval"),
    [(0.0, 8.0), (0.5, 10.0), (0.999, 12.0)],
    ids=["earliest", "middle", "latest"],
)
def test_the_interval_is_jittered_by_a_fifth(random: float, interval: float) -> None:
    operator = Operator([OK])
    beating(operator, a_minute, random=random)
    assert set(gaps(operator)) == {interval}


@pytest.mark.parametrize(
    ("answer", "interval"),
    [
        pytest.param({"interval_seconds": 5}, 5.0, id="shorter"),
        pytest.param({"interval_seconds": 20}, 20.0, id="longer"),
        pytest.param({"interval_seconds": 0}, 1.0, id="never-zero"),
        pytest.param({"interval_seconds": "soon"}, 10.0, id="no-number"),
        pytest.param({}, 10.0, id="nothing"),
        pytest.param([], 10.0, id="no-object"),
    ],
)
def test_the_operator_sets_the_interval(answer: Any, interval: float) -> None:
    operator = Operator([httpx.Response(200, json=answer)])
    beating(operator, a_minute)
    assert set(gaps(operator)) == {interval}


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(httpx.ConnectError("refused"), id="connect"),
        pytest.param(httpx.ReadTimeout("slow"), id="timeout"),
        pytest.param(httpx.Response(401, text="who are you"), id="401"),
        pytest.param(httpx.Response(403), id="403"),
        pytest.param(httpx.Response(307, headers={"location": "http://other/"}), id="redirect"),
        pytest.param(httpx.Response(503), id="503"),
    ],
)
def test_a_failure_is_retried_with_back_off_and_logged_once(
    failure: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator([*[failure] * 5, OK])
    with caplog.at_level(logging.INFO, logger="modelworker_server"):
        beating(operator, a_minute)
    assert gaps(operator)[:7] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert all(request.url.host == "operator" for request in operator.requests)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2, messages
    assert "no heartbeat was delivered" in messages[0]
    assert messages[1] == "heartbeats are delivered again"


def test_a_missing_token_is_retried_until_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator([OK])
    token = tmp_path / "token"

    async def script(lifecycle: Lifecycle, heartbeats: Heartbeats) -> None:
        await asyncio.sleep(20)
        assert operator.requests == []
        token.write_text("late")
        await asyncio.sleep(20)

    beating(operator, script, token_file=token)
    assert operator.requests[0].headers["authorization"] == "Bearer late"
    assert "the token cannot be read" in caplog.records[0].getMessage()
    assert "late" not in caplog.text


@pytest.mark.parametrize("content", ["canary\nx", "canary x", "canary\x00", "canäry"])
def test_a_file_that_is_no_token_is_not_quoted(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text(content, encoding="utf-8")
    operator = Operator([OK])
    beating(operator, a_minute, token_file=token)
    assert operator.requests == []
    (message,) = (record.getMessage() for record in caplog.records)
    assert "token" in message
    assert "can" not in message.replace("cannot", "").replace("can't", "")


def test_a_change_is_told_at_once_also_while_backing_off() -> None:
    operator = Operator([httpx.ConnectError("refused")])

    async def script(lifecycle: Lifecycle, heartbeats: Heartbeats) -> None:
        await asyncio.sleep(16)
        before = len(operator.times)
        lifecycle.loaded()
        await asyncio.sleep(0.1)
        assert operator.states[before:] == ["Ready"]

    beating(operator, script)


def test_the_last_word_is_told_once_and_only_tried_for_so_long() -> None:
    down = httpx.ConnectError("refused")
    operator = Operator([OK, down, down, down, OK])

    async def script(lifecycle: Lifecycle, heartbeats: Heartbeats) -> None:
        await asyncio.sleep(1)
        await heartbeats.last(3)
        assert operator.states == ["Loading"], "it was told already"
        lifecycle.fail(wire.FailureReason.LOAD_FAILED, "no")
        await heartbeats.last(3)
        assert operator.states[-1] == "Failed"
        operator.answers = [down]
        lifecycle.state = wire.LoadState.DRAINING
        began = asyncio.get_running_loop().time()
        await heartbeats.last(3)
        assert asyncio.get_running_loop().time() - began == pytest.approx(3, abs=0.1)

    beating(operator, script)


def test_the_adapters_of_an_answer_are_handed_on() -> None:
    math = {"name": "math", "source": "local", "location": "/models/math"}
    operator = Operator(
        [
            OK,
            httpx.Response(200, json={"interval_seconds": 10, "adapters": [math]}),
            httpx.Response(200, json={"interval_seconds": 10, "adapters": []}),
            OK,
        ]
    )
    seen: list[list[str]] = []
    beating(operator, a_minute, want=lambda adapters: seen.append([one.name for one in adapters]))
    assert seen == [["math"], []]


def test_the_trust_of_an_answer_is_handed_on() -> None:
    trust = wire.Trust(issuer="https://api", keys=[{"kid": "a", "kty": "EC"}], namespaces=["lab"])
    answer = wire.HeartbeatReply(interval_seconds=10, trust=trust).model_dump(mode="json")
    operator = Operator([OK, httpx.Response(200, json=answer), OK])
    seen: list[wire.Trust] = []
    beating(operator, a_minute, trust=seen.append)
    assert seen == [trust]


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        pytest.param(
            {"trust": {"issuer": "x", "keys": 3}}, "trust.keys, trust.namespaces", id="trust"
        ),
        pytest.param({"adapters": "many"}, "adapters", id="adapters"),
    ],
)
def test_an_answer_that_is_not_understood_is_told_once(
    reply: dict[str, Any], names: str, caplog: pytest.LogCaptureFixture
) -> None:
    beating(Operator([httpx.Response(200, json={"interval_seconds": 10, **reply})]), a_minute)
    (message,) = (record.getMessage() for record in caplog.records)
    assert f"(wrong: {names})" in message
