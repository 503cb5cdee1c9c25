"""Things break under load, and no answer is lost."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Self

import pytest

from modelworker import LM, Generation
from tests.e2e.conftest import Platform
from tests.support import eventually


@pytest.fixture
def lm(platform: Platform, two_workers: str) -> Iterator[LM]:
    platform.wait_ready(two_workers, 2)
    with platform.lm(two_workers) as made:
        yield made


class Traffic:
    """Calls without a pause from a few threads, until it is told to stop."""

    def __init__(self, lm: LM, threads: int = 3) -> None:
        self.lm = lm
        self.answers: list[Generation] = []
        self.errors: list[Exception] = []
        self.fewest_workers = 99
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def _run(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            try:
                answer = self.lm.generate(
                    f"Thread {number} turn {turn} says", max_tokens=8, temperature=0
                )
            except Exception as error:
                self.errors.append(error)
            else:
                self.answers.append(answer)
            self.fewest_workers = min(self.fewest_workers, len(self.lm.workers()))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.answers), until=lambda n: n >= 3, what="first answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_worker_killed_under_load_loses_no_answer(
    platform: Platform, two_workers: str, lm: LM
) -> None:
    prompts = [f"Count on from {n}: {n + 1}, {n + 2}," for n in range(40)]
    undisturbed = lm.generate(prompts, max_tokens=24, temperature=0)
    victim = platform.pods(two_workers)[0]["metadata"]["name"]
    pid = platform.cluster.container_pid(platform.namespace, victim, "worker")
    killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killer.start()
    answers = lm.generate(prompts, max_tokens=24, temperature=0)
    assert not killer.is_alive(), "the batch was over before the worker was killed"
    assert [a.token_ids for a in answers] == [a.token_ids for a in undisturbed]
    platform.wait_ready(two_workers, 2)


def test_rolling_update_under_load_fails_no_call(
    platform: Platform, two_workers: str, lm: LM
) -> None:
    before = {pod["metadata"]["uid"] for pod in platform.pods(two_workers)}
    with Traffic(lm) as traffic:
        # A GPU each, of a node with two: there is no spare one, so one worker has to go
        # (maxSurge 0, maxUnavailable 1) before the next can come.
        platform.apply(two_workers, replicas=2, gpu={"count": 1})
        eventually(
            lambda: {pod["metadata"]["uid"] for pod in platform.pods(two_workers)},
            until=lambda uids: len(uids) == 2 and not uids & before,
            timeout=240,
            what="two new pods alone",
        )
        platform.wait_ready(two_workers, 2)
        new = {pod["metadata"]["name"] for pod in platform.pods(two_workers)}
        eventually(
            lambda: {answer.worker for answer in traffic.answers[-20:]},
            until=lambda workers: workers == new,
            what="answers from both new workers alone",
        )
    child = json.loads(platform.kubectl("get", "deployment", f"mw-{two_workers}", "-o", "json"))
    assert child["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert not traffic.errors, Counter(repr(error) for error in traffic.errors)
    assert traffic.fewest_workers >= 1
    assert len({answer.worker for answer in traffic.answers}) == 4, "two old and two new workers"


def test_api_server_away_workers_serve_and_operator_recovers(
    platform: Platform, two_workers: str, lm: LM
) -> None:
    lm.generate("warm", max_tokens=1)
    with Traffic(lm, threads=1) as traffic:
        platform.cluster.stop_apiserver()
        try:
            deadline = time.monotonic() + 30
            answered = len(traffic.answers)
            eventually(
                lambda: time.monotonic() > deadline, timeout=40, what="the end of the outage"
            )
            assert len(traffic.answers) > answered + 5
        finally:
            platform.cluster.start_apiserver()
        assert not traffic.errors, traffic.errors
    platform.kubectl("delete", "service", f"mw-{two_workers}")
    eventually(
        lambda: platform.kubectl("get", "service", f"mw-{two_workers}", "-o", "name"),
        timeout=30,
        what="the Service, repaired after the outage",
    )
    platform.wait_ready(two_workers, 2)


def test_dropped_stream_ends_on_the_worker(platform: Platform, two_workers: str, lm: LM) -> None:
    for _ in range(3):
        stream = lm.stream("Tell me everything about", max_tokens=2000, temperature=1.0)
        next(iter(stream))
        stream.close()
    started = time.monotonic()
    lm.generate("After the dropped ones,", max_tokens=8, temperature=0)
    assert platform.object(two_workers)["status"]["readyReplicas"] == 2
    eventually(
        lambda: [load for load in lm.in_flight().values() if load],
        until=lambda loads: not loads,
        what=f"no call in flight {time.monotonic() - started:.0f} s after the streams were dropped",
    )
