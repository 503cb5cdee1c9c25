"""How calls spread over servers on real sockets: by the load they report, by session, by prompt."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from modelworker._affinity import LEAST_CAPACITY, key_of, preferred
from modelworker._routing import load_of
from modelworker._session import Session
from modelworker._settings import Settings
from modelworker_api import wire
from tests.client_reward_support import rm, scoring
from tests.client_support import (
    Behaviour,
    Reply,
    Request,
    StubWorker,
    completion,
    error,
    good,
    lm,
    workers,
)
from tests.fake_worker import FakeWorker
from tests.server_support import running_server
from tests.stream_support import Player, Script
from tests.support import eventually


def loaded(header: str, gate: threading.Event | None = None) -> Behaviour:
    """A worker that answers, once the gate is open, and says how loaded it is."""

    async def behaviour(request: Request) -> Reply:
        if gate is not None:
            await asyncio.to_thread(gate.wait, 30)
        return Reply(completion(request).body, headers={wire.HEADER_LOAD: header})

    return behaviour


def shares(running: list[StubWorker]) -> list[int]:
    return [len(one.seen) for one in running]


def test_calls_go_round_workers_that_others_keep_busy() -> None:
    busy, idle = loaded("60 20 0.50"), loaded("0 0 0.10")
    with workers(busy, idle, idle, idle) as running, lm(running) as client:
        for _ in range(100):
            client.generate("x")
        first, *others = shares(running)
        # A call finds out, and again when the report is old; blind choice sends 25.
        assert first < 10
        assert min(others) > 8


def test_a_worker_whose_cache_is_full_is_left_to_recover() -> None:
    with workers(loaded("0 0 0.99"), loaded("0 0 0.10")) as running, lm(running) as client:
        for _ in range(40):
            client.generate("x")
        assert shares(running)[0] < 10


@pytest.mark.parametrize("header", ["1 0 -", "0 0 0.50", "nonsense"])
def test_a_batch_spreads_evenly_over_workers_that_only_we_use(header: str) -> None:
    gate = threading.Event()
    with workers(*[loaded(header, gate)] * 3) as running, lm(running) as client:
        gate.set()
        client.generate(["x"] * 9)
        gate.clear()
        batch = client.submit(["x"] * 12)
        try:
            eventually(lambda: sum(one.busy for one in running) == 12, what="twelve calls")
            assert [one.busy for one in running] == [4, 4, 4]
        finally:
            gate.set()
        assert len(batch.result()) == 12


def test_a_real_server_says_its_load_and_the_client_reads_it() -> None:
    async def scenario(url: str) -> str | None:
        session = Session(Settings("policy", endpoints=(url,)))
        try:
            body = {"model": "policy", "prompt": "x", "max_tokens": 2}
            return (await session.post("/v1/completions", body, session.until(10))).load
        finally:
            await session.aclose()

    with running_server(FakeWorker()) as server:
        load = load_of(asyncio.run(scenario(server.url)))
        assert load is not None
        assert load.requests <= 1


def test_a_worker_that_turned_a_call_away_is_asked_when_it_said() -> None:
    async def full(request: Request) -> Reply:
        return error(429, "full", "overloaded", **{"retry-after": "10"})

    with workers(full, good) as running, lm(running) as client:
        for _ in range(30):
            client.generate("x")
        # Blind choice asks it about fifteen times.
        assert shares(running)[0] <= 2


# --- sessions ------------------------------------------------------------------------


def by_order(running: list[StubWorker], key: str | None) -> list[StubWorker]:
    """The workers in the order of a key."""
    assert key is not None
    order = preferred(key, [one.url for one in running])
    return sorted(running, key=lambda one: order.index(one.url))


def test_a_session_meets_one_worker() -> None:
    with workers(*[scoring] * 3) as running, rm(running) as client:
        for i in range(6):
            session = f"tree-{i}"
            before = shares(running)
            client.score((f"q{i}", "a\n\nb"), session=session)
            client.score([(f"q{i}.{j}", "a\n\nb") for j in range(LEAST_CAPACITY)], session=session)
            client([("q", "a\n\nb")], session=session)
            client.submit([("q", "a\n\nb")], session=session).result()
            grown = [now > then for now, then in zip(shares(running), before, strict=True)]
            home = by_order(running, key_of(session, None, ""))[0]
            assert grown == [one is home for one in running]
        assert sum(count > 0 for count in shares(running)) > 1


def test_every_call_of_a_language_models_session_meets_one_worker() -> None:
    script = Script((b"a", b"b"))
    with workers(*[Player(script) for _ in range(3)]) as running, lm(running, timeout=30) as client:
        for i in range(5):
            session = f"tree-{i}"
            before = shares(running)
            client.generate("x", session=session, max_tokens=1)
            client.generate(["x", "y"], session=session, max_tokens=1)
            client.submit(["x", "y"], session=session, max_tokens=1).result()
            list(client.stream("x", session=session))
            list(client.stream_chat([{"role": "user", "content": "x"}], session=session))
            grown = [now - then for now, then in zip(shares(running), before, strict=True)]
            home = by_order(running, key_of(session, None, ""))[0]
            assert grown == [7 if one is home else 0 for one in running]


def test_a_cut_stream_of_a_session_goes_on_at_the_sessions_next_worker() -> None:
    script = Script((b"a", b"b", b"c"))
    players = [Player(script) for _ in range(3)]
    with workers(*players) as running, lm(running) as client:
        first, second, third = by_order(running, key_of("tree", None, ""))
        first.behaviour = Player(script, cuts=[2])
        text = "".join(part.text for part in client.stream("x", session="tree"))
        assert text == "abc"
        assert [len(one.seen) for one in (first, third)] == [1, 0]
        assert [request.path for request in second.seen] == [
            "/detokenize",
            "/detokenize",
            "/v1/completions",
        ]
        # The worker that broke off is left alone for a while.
        assert client.generate("x", session="tree", max_tokens=1).worker == second.name


@pytest.mark.parametrize(
    ("beginning", "ends"),
    [
        pytest.param(lambda i: f"question {i} " + "x" * 600, ["", "a", "b"], id="text"),
        pytest.param(lambda i: [i] * 200, [[], [1], [2, 3]], id="token-ids"),
    ],
)
def test_prompts_that_begin_alike_meet_one_worker(
    beginning: Callable[[int], Any], ends: list[Any]
) -> None:
    prompts = [beginning(i) + end for i in range(5) for end in ends]
    with (
        workers(good, good, good) as running,
        lm(running, affinity="prefix", max_in_flight=4) as client,
    ):
        client.generate(prompts)
        for one in running:
            assert sorted(request.body["prompt"] for request in one.seen) == sorted(
                prompt
                for prompt in prompts
                if by_order(running, key_of(None, "prefix", prompt))[0] is one
            )
        assert sum(shares(running)) == len(prompts)


def test_two_clients_agree_on_a_sessions_worker() -> None:
    with (
        workers(*[scoring] * 3) as running,
        rm(running) as one,
        rm(running[::-1]) as other,
    ):
        for client in (one, other, one, other):
            client.score(("q", "a"), session="tree")
        assert sorted(shares(running)) == [0, 0, 4]


def test_a_session_goes_on_at_the_next_worker_when_its_own_is_gone() -> None:
    with workers(*[scoring] * 3) as running, rm(running) as client:
        first, second, _ = by_order(running, key_of("tree", None, ""))
        assert client.score(("q", "a"), session="tree").worker == first.name
        first.stop()
        for _ in range(5):
            assert client.score(("q", "a"), session="tree").worker == second.name


def test_the_answers_to_a_question_meet_one_worker() -> None:
    inputs = [(f"question {i % 7}", f"a{i}\n\nb") for i in range(70)]
    with workers(*[scoring] * 3) as running, rm(running, affinity="prefix") as client:
        whole = client.score(inputs)
        for _ in range(2):
            assert client.score(inputs) == whole
        homes: dict[str, set[str]] = {}
        for one in running:
            for request in one.seen:
                asked = {item["question"] for item in request.body["inputs"]}
                assert len(asked) == 1
                homes.setdefault(asked.pop(), set()).add(one.url)
        urls = [one.url for one in running]
        assert homes == {
            question: {preferred(str(key_of(None, "prefix", question)), urls)[0]}
            for question in {question for question, _ in inputs}
        }
