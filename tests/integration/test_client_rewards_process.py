"""RMCall across processes and threads: pickle, fork, spawn, Ctrl-C."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelworker import RMCall, Score
from tests.client_reward_support import rm, scoring, step_scores
from tests.client_support import hang, workers
from tests.support import eventually


def ask(client: RMCall, answer: str) -> Score:
    """What a child process runs."""
    return client.score([("q", answer), ("q", "other")])[0]


def right(score: Score, answer: str) -> bool:
    return score.step_scores == step_scores("q", [answer]) and score.worker == "pod-0"


def test_pickle_before_and_after_use() -> None:
    with workers(scoring) as running, rm(running) as client:
        fresh = pickle.loads(pickle.dumps(client))
        assert right(ask(client, "a"), "a")
        used = pickle.loads(pickle.dumps(client))
        assert right(ask(fresh, "b"), "b")
        assert right(ask(used, "c"), "c")
        for one in (fresh, used):
            one.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_process_pool(method: str) -> None:
    with workers(scoring) as running, rm(running) as client:
        assert right(ask(client, "parent"), "parent")
        with multiprocessing.get_context(method).Pool(2) as pool:
            scores = pool.starmap(ask, [(client, f"p{i}") for i in range(6)])
        assert all(right(score, f"p{i}") for i, score in enumerate(scores))
        assert right(ask(client, "after"), "after")


def test_after_fork_both_go_on_and_a_batch_stays_its_parents() -> None:
    with workers(scoring) as running, rm(running) as client:
        batch = client.submit([("q", "a"), ("q", "b")])
        before = batch.result()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                scores = [right(ask(client, f"child {i}"), f"child {i}") for i in range(3)]
                try:
                    batch.cancel()
                except RuntimeError:
                    status = 0 if all(scores) and batch.result() == before else 2
            finally:
                os._exit(status)
        assert all(right(ask(client, f"parent {i}"), f"parent {i}") for i in range(20))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert right(ask(client, "after the child"), "after the child")


def test_from_many_threads() -> None:
    with workers(scoring) as running, rm(running) as client, ThreadPoolExecutor(16) as threads:
        scores = list(threads.map(lambda i: ask(client, f"t{i}"), range(100)))
        assert all(right(score, f"t{i}") for i, score in enumerate(scores))


def test_ctrl_c_ends_a_sync_call_promptly_on_both_sides() -> None:
    code = """
        import sys, time
        from modelworker import RMCall
        rm = RMCall("prm", endpoints=[sys.argv[1]])
        try:
            rm.score([("q", "a" * 30_000), ("r", "b" * 30_000)])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            time.sleep(0.5)
            print(rm.in_flight(), flush=True)
    """
    with workers(hang) as (running,):
        child = subprocess.Popen(
            [sys.executable, "-W", "default", "-c", textwrap.dedent(code), running.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: running.busy == 2, what="two requests")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        assert (out, err, child.returncode) == ("interrupted\n{}\n", "", 0)
        assert running.gone == 2


def test_exit_without_close_is_silent_and_ends_the_requests() -> None:
    code = """
        import sys
        from modelworker import RMCall
        batch = RMCall("prm", endpoints=[sys.argv[1]]).submit([("q", "a"), ("r", "b")])
        while not batch._aio._requests:
            pass
        print("leaving", flush=True)
    """
    with workers(hang) as (running,):
        done = subprocess.run(
            [sys.executable, "-W", "default", "-c", textwrap.dedent(code), running.url],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("leaving\n", "")
        eventually(lambda: running.busy == 0, what="the requests' end on the worker")
