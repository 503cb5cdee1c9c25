"""FastChat's API server and OpenR's clients, call by call, against our controller and workers."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import httpx
import pytest

from modelworker_api.rewards import ScoreType
from tests.fake_reward_worker import score_of
from tests.fake_worker import FakeWorker, text_of
from tests.fastchat_support import (
    COUNT,
    DETAILS,
    EMBEDDINGS,
    GENERATE,
    STATUS,
    STREAM,
    TEMPLATE,
    ask,
    compact,
    failed,
    frames,
    running_controller,
)
from tests.reward_server_support import VALUE, reward_server
from tests.server_support import Running, running_server
from tests.support import eventually

ADDRESS = "/get_worker_address"
MODELS = "/list_models"
REGISTER = "/register_worker"
BEAT = "/receive_heart_beat"
REFRESH = "/refresh_all_workers"


class World(NamedTuple):
    """A controller and the workers that registered with it."""

    url: str
    policy: Running
    other: Running
    prm: Running


def register(controller: str, worker: str) -> None:
    """As FastChat's worker does when it starts."""
    told = {
        "worker_name": worker,
        "check_heart_beat": True,
        "worker_status": {"model_names": ["of no interest"], "speed": 1, "queue_length": 0},
    }
    assert ask(controller, REGISTER, told) is None


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        running_controller("127.0.0.1") as url,
        running_server(FakeWorker()) as policy,
        running_server(FakeWorker()) as other,
        reward_server(ScoreType.PROCESS) as prm,
    ):
        made = World(url, policy, other, prm)
        for worker in made[1:]:
            register(url, worker.url)
        yield made


def address(world: World, model: str) -> str:
    found: str = ask(world.url, ADDRESS, {"model": model})["address"]
    return found


# --- the flows -------------------------------------------------------------------------


def as_openr_reads(answer: Any, n: int) -> list[tuple[str, int, float, str]]:
    """Each sample, by the fields that OpenR's inference reads."""
    assert isinstance(answer["usage"]["prompt_tokens"], int)
    keys = ("text", "output_token_len", "cumulative_logprob", "finish_reason")
    return [tuple(answer[key][index] for key in keys) for index in range(n)]


@pytest.mark.parametrize("n", [1, 4])
def test_openrs_language_model_call(world: World, n: int) -> None:
    worker = address(world, "policy")
    assert worker in (world.policy.url, world.other.url)
    params = {
        "model": "policy",
        "prompt": "ab",
        "temperature": 1.0,
        "n": n,
        "top_p": 1,
        "top_k": -1,
        "stop_token_ids": None,
        "max_new_tokens": 4,
        "stop": None,
        "echo": False,
        "include_stop_str_in_output": True,
    }
    assert as_openr_reads(ask(worker, GENERATE, params), n) == [
        (text_of("ab", index, 4), 4, -5.0, "length") for index in range(n)
    ]


def test_openrs_reward_model_call(world: World) -> None:
    worker = address(world, "prm")
    assert worker == world.prm.url
    values = ask(worker, VALUE, {"input_str": ["s1 #", "s1 # s2 # "]})["value"]
    first, second = score_of("s1 #"), score_of("s1 # s2 #")
    assert values == [[first], [first, second]]
    assert ask(worker, VALUE, {"input_str": "s1 #"})["value"] == [first]


def test_the_calls_of_fastchats_api_server(world: World) -> None:
    assert ask(world.url, REFRESH) is None
    models = ask(world.url, MODELS)["models"]
    assert models == ["lab/policy", "lab/prm", "org/policy-1b", "org/prm-7b", "policy", "prm"]

    worker = address(world, "policy")
    conv = ask(worker, TEMPLATE, {"model": "policy"})["conv"]
    assert (conv["name"], conv["sep_style"]) == ("one_shot", 1)
    turns = [(conv["roles"][0], "hi"), (conv["roles"][1], None)]
    prompt = conv["system_template"].format(system_message=conv["system_message"]) + conv["sep"]
    for role, message in turns:
        prompt += f"{role}: {message}{conv['sep']}" if message else f"{role}:"

    length = ask(worker, DETAILS, {"model": "policy"})["context_length"]
    count = ask(worker, COUNT, {"model": "policy", "prompt": prompt})
    assert count == {"count": len(prompt), "error_code": 0}
    params = {
        "model": "policy",
        "prompt": prompt,
        "temperature": 0.7,
        "logprobs": None,
        "top_p": 1.0,
        "top_k": -1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_new_tokens": length - count["count"],
        "echo": False,
        "stop_token_ids": conv["stop_token_ids"],
        "stop": [conv["stop_str"]],
    }
    text = text_of(prompt, 0, length - len(prompt))
    for _ in range(2):
        answer = ask(worker, GENERATE, params)
        assert (answer["text"], answer["error_code"]) == (text, 0)
        assert answer["usage"]["total_tokens"] == length

    *_, before, last = frames(worker, {**params, "max_new_tokens": 5})
    assert (before["text"], before["finish_reason"]) == (text[:5], None)
    assert (last["text"], last["finish_reason"]) == (text[:5], "length")

    body = {"model": "policy", "input": ["a", "b", "c", "d"], "encoding_format": None}
    vectors = ask(worker, EMBEDDINGS, body)
    assert (len(vectors["embedding"]), vectors["token_num"]) == (4, 4)


def test_requests_are_spread_over_the_workers(world: World) -> None:
    given = [address(world, "policy") for _ in range(6)]
    assert sorted(map(given.count, (world.policy.url, world.other.url))) == [3, 3]


# --- the controller's other routes -----------------------------------------------------


def test_a_worker_reports_and_a_stranger_is_told_to_register(world: World) -> None:
    for url, known in ((world.policy.url, True), ("http://127.0.0.1:1", False)):
        answer = ask(world.url, BEAT, {"worker_name": url, "queue_length": 0})
        assert answer == {"exist": known}


def test_the_controller_poses_as_a_worker(world: World) -> None:
    for worker in world[1:]:
        ask(world.url, BEAT, {"worker_name": worker.url, "queue_length": 2})
    status = ask(world.url, STATUS)
    assert status == {
        "model_names": ask(world.url, MODELS)["models"],
        "speed": 3,
        "queue_length": 6,
    }


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        pytest.param("/list_multimodal_models", {"models": []}, id="multimodal"),
        pytest.param(REFRESH, None, id="refresh"),
    ],
)
def test_routes_without_a_body(world: World, path: str, answer: Any) -> None:
    assert httpx.post(world.url + path).content == compact(answer)
    language = ask(world.url, "/list_language_models")
    assert language == ask(world.url, MODELS)


@pytest.mark.parametrize("model", ["nobody", "", "x" * 10_000])
def test_an_unknown_model_has_no_address(world: World, model: str) -> None:
    assert ask(world.url, ADDRESS, {"model": model}) == {"address": ""}
    (frame,) = frames(world.url, {"model": model, "prompt": "a"})
    assert failed(frame) == 50005


@pytest.mark.parametrize("path", [ADDRESS, BEAT, REGISTER])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="no-json"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="nothing-in-it"),
        pytest.param(b'{"model": 3, "worker_name": 3}', id="numbers"),
        pytest.param(b'{"model": "\\ud800", "worker_name": "\\ud800"}', id="lone-surrogate"),
        pytest.param(b"[" * 10_000, id="deep"),
        pytest.param(b" " * 20_000, id="long"),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(world: World, path: str, content: bytes) -> None:
    response = httpx.post(world.url + path, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    (frame,) = frames_of(world, content)
    assert failed(frame) == 40001


def frames_of(world: World, content: bytes) -> list[Any]:
    response = httpx.post(world.url + STREAM, content=content)
    assert response.status_code == 200
    return [httpx.Response(200, content=one).json() for one in response.content.split(b"\0")[:-1]]


def test_frames_pass_through_unchanged(world: World) -> None:
    body = {"model": "policy", "prompt": "ab", "max_new_tokens": 5, "n": 2}
    direct = httpx.post(world.policy.url + STREAM, json=body).content
    assert httpx.post(world.url + STREAM, json=body).content == direct


def test_a_client_that_leaves_the_proxy_ends_the_work(world: World) -> None:
    workers = (world.policy.worker, world.other.worker)
    for worker in workers:
        worker.step = lambda: asyncio.sleep(0.02)
    body = {"model": "policy", "prompt": "ab", "max_new_tokens": 400}
    with httpx.stream("POST", world.url + STREAM, json=body) as response:
        next(response.iter_bytes())
        assert sum(worker.active for worker in workers) == 1
    eventually(
        lambda: sum(worker.active for worker in workers),
        until=lambda active: active == 0,
        timeout=5,
        interval=0.01,
        what="ended work",
    )
    for worker in workers:
        worker.step = lambda: asyncio.sleep(0)


@pytest.mark.parametrize("dies", ["before", "while-it-answers", "instead"])
def test_a_worker_that_dies_is_told_of_in_a_frame(dies: str) -> None:
    with running_controller("127.0.0.1") as url, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Answering(server) as answering:
            answering.say(b'{"model_names": ["m"], "speed": 1, "queue_length": 0}')
            register(url, f"http://127.0.0.1:{port}")
            assert ask(url, MODELS) == {"models": ["m"]}
            if dies == "while-it-answers":
                answering.say(b'{"text": "a", "error_code": 0}\0', length=100)
            elif dies == "instead":
                answering.say(b"oh", status=500)
            else:
                answering.say(b"", length=-1)
            *begun, last = frames(url, {"model": "m", "prompt": "a"})
        assert failed(last) == 50006
        assert len(begun) == (dies == "while-it-answers")


class Answering:
    """A worker that sends prepared answers, one for each connection, and hangs up."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._answers: list[bytes] = []

    def say(self, body: bytes, *, status: int = 200, length: int | None = None) -> None:
        """Answer the next connection so; a negative length hangs up at once."""
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {length or len(body)}\r\n"
        head += "Connection: close\r\n\r\n"
        self._answers.append(b"" if length == -1 else head.encode() + body)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self) -> None:
        for _ in range(2):
            connection, _ = self._server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(self._answers.pop(0))

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)


def test_nobody_registers_unless_that_is_allowed() -> None:
    with running_controller() as url, running_server(FakeWorker()) as worker:
        register(url, worker.url)
        assert ask(url, BEAT, {"worker_name": worker.url, "queue_length": 0}) == {"exist": False}
        assert ask(url, MODELS) == {"models": []}
        assert worker.worker.started == 0


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"oh", id="no-json"),
        pytest.param(b"{}", id="nothing-in-it"),
        pytest.param(b'{"model_names": [3], "speed": 1, "queue_length": 0}', id="names"),
        pytest.param(b'{"model_names": ["m"], "speed": 1, "queue_length": -1}', id="queue"),
        pytest.param(b'{"model_names": [%s]}' % (b'"m",' * 20_000), id="long"),
    ],
)
def test_a_worker_that_does_not_tell_its_status_properly_is_left_out(said: bytes) -> None:
    with running_controller("127.0.0.1") as url, socket.create_server(("127.0.0.1", 0)) as server:
        answering = Answering(server)
        answering.say(said)
        answering.say(b"")
        with answering:
            register(url, f"http://127.0.0.1:{server.getsockname()[1]}")
            assert ask(url, MODELS) == {"models": []}
            socket.create_connection(server.getsockname()).close()
