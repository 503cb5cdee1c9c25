"""LM across processes and threads: pickle, fork, spawn, Ctrl-C, exit."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelworker import LM
from tests.client_support import Reply, Request, StubWorker, chunk, good, hang, parts, workers
from tests.provider_support import HI, openai_chat, openai_lm
from tests.support import eventually


def ask(client: LM, prompt: str) -> str:
    """What a child process runs."""
    return client.generate(prompt).text


def program(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_pickle_before_and_after_use() -> None:
    with workers(good) as (running,):
        client = LM("policy", endpoints=[running.url])
        fresh = pickle.loads(pickle.dumps(client))
        assert ask(client, "a") == "ok a"
        used = pickle.loads(pickle.dumps(client))
        assert (ask(fresh, "b"), ask(used, "c")) == ("ok b", "ok c")
        for one in (client, fresh, used):
            one.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_in_a_process_pool(method: str) -> None:
    with workers(good) as (running,), LM("policy", endpoints=[running.url]) as client:
        assert ask(client, "parent") == "ok parent"
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            texts = pool.starmap(ask, [(client, f"p{i}") for i in range(6)])
        assert texts == [f"ok p{i}" for i in range(6)]
        assert ask(client, "after") == "ok after"


def ask_provider(client: LM) -> str:
    """What a child process runs."""
    return client.chat(HI).text


def test_another_provider_in_a_forked_process() -> None:
    async def answer(request: Request) -> Reply:
        return openai_chat(request)

    with workers(answer) as (server,), openai_lm(server) as client:
        assert ask_provider(client) == "hello 0"
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(ask_provider, [client] * 4) == ["hello 0"] * 4
        assert ask_provider(client) == "hello 0"


def test_after_fork_both_go_on() -> None:
    with workers(good) as (running,), LM("policy", endpoints=[running.url]) as client:
        stream = client.stream("never begun")
        client.generate("before")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                del stream
                texts = [ask(client, f"child {i}") for i in range(3)]
                gc.collect()
                status = 0 if texts == [f"ok child {i}" for i in range(3)] else 2
            finally:
                os._exit(status)
        texts = [ask(client, f"parent {i}") for i in range(20)]
        assert texts == [f"ok parent {i}" for i in range(20)]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ask(client, "after the child") == "ok after the child"


def test_from_many_threads() -> None:
    with (
        workers(good, good) as running,
        LM("policy", endpoints=[one.url for one in running]) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        texts = list(threads.map(lambda i: ask(client, f"t{i}"), range(200)))
        assert texts == [f"ok t{i}" for i in range(200)]
        assert all(one.seen for one in running)


def test_ctrl_c_ends_a_sync_call_promptly_on_both_sides() -> None:
    code = """
        import sys, time
        from modelworker import LM
        lm = LM("policy", endpoints=[sys.argv[1]])
        try:
            lm.generate(["a", "b", "c"])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            time.sleep(0.5)
            print(lm.in_flight(), flush=True)
    """
    with workers(hang) as (running,):
        child = program(code, running.url)
        eventually(lambda: running.busy == 3, what="three calls")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        assert (out, err, child.returncode) == ("interrupted\n{}\n", "", 0)
        assert running.gone == 3


def test_ctrl_c_ends_a_sync_stream_promptly_on_both_sides() -> None:
    code = """
        import sys, time
        from modelworker import LM
        lm = LM("policy", endpoints=[sys.argv[1]])
        try:
            for part in lm.stream("a"):
                print(part.text, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            time.sleep(0.5)
            print(lm.in_flight(), flush=True)
    """

    async def endless(request: Request) -> Reply:
        return Reply(parts=parts(chunk("part", 1), then=lambda: asyncio.sleep(600)))

    with workers(endless) as (running,):
        child = program(code, running.url)
        assert child.stdout is not None
        assert child.stdout.readline() == "part\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        assert (out, err, child.returncode) == ("interrupted\n{}\n", "", 0)
        assert running.gone == 1


def test_exit_without_close_is_silent_and_ends_the_calls() -> None:
    code = """
        import sys, threading
        from modelworker import LM
        lm = LM("policy", endpoints=sys.argv[1:])
        threading.Thread(target=lm.generate, args=(["x"] * 3,), daemon=True).start()
        stream = lm.stream("y")
        while not lm.in_flight():
            pass
        print("leaving", flush=True)
    """
    with workers(hang) as (running,):
        child = program(code, running.url)
        out, err = child.communicate(timeout=20)
        assert (out, child.returncode) == ("leaving\n", 0)
        assert err == ""
        eventually(lambda: running.busy == 0, what="the calls' end on the worker")


def test_a_dropped_lm_closes_its_connections() -> None:
    server = StubWorker(good)
    try:
        client = LM("policy", endpoints=[server.url])
        client.generate("x")
        assert _loops() == 1
        open_now = _connections(server.port)
        assert open_now == 1
        del client
        gc.collect()
        eventually(lambda: _connections(server.port) == 0, what="no connection left")
        for _ in range(5):
            with LM("policy", endpoints=[server.url]) as one:
                one.generate("x")
        assert _loops() == 1, "one background thread a process"
    finally:
        server.stop()


def _loops() -> int:
    """The client's threads in this process."""
    return sum(thread.name == "modelworker" for thread in threading.enumerate())


def _connections(port: int) -> int:
    import psutil

    return sum(
        1
        for one in psutil.Process().net_connections("tcp")
        if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
    )
