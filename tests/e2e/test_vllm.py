"""vLLM on the whole path: kubectl apply, the operator, worker processes with real engines, LM."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from modelworker import LM, Beam, ModelNotServed, Unsupported
from tests.e2e.conftest import ROOT, Platform
from tests.e2e.test_rewards import QUESTION, scoring
from tests.support import eventually
from tests.vllm_support import write_adapter

NAME = "fast"
FOLDER = "smollm2-safetensors"
MODEL = {"source": {"pvc": {"claimName": "models", "path": FOLDER}}, "dtype": "float32"}
ENGINE = {"kvCacheMemory": "512Mi", "enforceEager": True}
MAX_QUEUED = 24
PROMPTS = [f"Count on from {n}: {n + 1}, {n + 2}," for n in range(12)]


@pytest.fixture(scope="module")
def worker(platform: Platform) -> str:
    """Name of a ModelWorker with two ready vLLM workers, which every test leaves so."""
    subprocess.run(
        [sys.executable, str(ROOT / "examples/fill_volume.py"), "--safetensors"],
        check=True,
        env=platform.environment(),
    )
    platform.apply(
        NAME,
        backend="VLLM",
        replicas=2,
        model={**MODEL, "maxModelLen": 1024},
        vllm=ENGINE,
        concurrency={"maxRunning": 8, "maxQueued": MAX_QUEUED},
        lora={"maxRank": 8},
    )
    platform.wait_ready(NAME, 2, timeout=480)
    return NAME


@pytest.fixture
def lm(platform: Platform, worker: str) -> Iterator[LM]:
    platform.wait_ready(worker, 2, timeout=300)
    with platform.lm(worker) as made:
        yield made


def addresses(platform: Platform) -> dict[str, str]:
    """Base URL of each ready worker, by pod."""
    workers = platform.object(NAME)["status"]["workers"]
    return {w["pod"]: f"http://{w['address']}" for w in workers if w["state"] == "Ready"}


def running(url: str) -> float:
    """Requests that the engine works on, by its own metric."""
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("vllm:num_requests_running{"):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{url} has no metric of vLLM")


def engine_pid(platform: Platform, pod: str) -> int:
    """Process id of a pod's engine core."""
    parent = psutil.Process(platform.cluster.container_pid(platform.namespace, pod, "worker"))
    cores = [p.pid for p in parent.children(recursive=True) if "EngineCore" in p.name()]
    assert len(cores) == 1, [(p.pid, p.name()) for p in parent.children(recursive=True)]
    return cores[0]


def test_greedy_answers_equal_the_transformers_backend(
    platform: Platform, lm: LM, two_workers: str
) -> None:
    chat = [{"role": "user", "content": "What is the capital of Italy?"}]
    prefilled = [*chat, {"role": "assistant", "content": "The capital is\n\n"}]
    with platform.lm(two_workers) as other:
        expected = other.generate(PROMPTS, max_tokens=16, temperature=0)
        for messages, go_on in ((chat, False), (prefilled, True)):
            answers = [
                one.chat(messages, continue_final_message=go_on, max_tokens=12, temperature=0)
                for one in (lm, other)
            ]
            assert answers[0].prompt_token_ids == answers[1].prompt_token_ids
            assert answers[0].token_ids == answers[1].token_ids
    found = lm.generate(PROMPTS, max_tokens=16, temperature=0)
    assert [a.token_ids for a in found] == [a.token_ids for a in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.text == theirs.text
        assert mine.usage == theirs.usage
        assert mine.finish_reasons == theirs.finish_reasons
        assert mine.prompt_token_ids == theirs.prompt_token_ids
        assert mine.samples[0].cumulative_logprob == pytest.approx(
            theirs.samples[0].cumulative_logprob, abs=1e-3
        )


def test_every_way_to_ask(lm: LM) -> None:
    eight = lm.generate("A random number:", n=8, max_tokens=8, temperature=1.0, seed=3)
    assert len(eight) == 8
    assert len(set(eight.texts)) > 1
    assert all(s.logprobs and len(s.logprobs) == len(s.token_ids or ()) for s in eight.samples)

    options: dict[str, Any] = {"max_tokens": 32, "temperature": 0, "stop": [", 5"]}
    dropped = lm.generate("1, 2, 3, 4", **options)
    kept = lm.generate("1, 2, 3, 4", include_stop_str_in_output=True, **options)
    assert kept.text == dropped.text + ", 5"
    assert {kept.samples[0].stop_reason, dropped.samples[0].stop_reason} == {", 5"}
    assert kept.finish_reasons == dropped.finish_reasons == ["stop"]

    parts = list(lm.stream("Once upon a time", max_tokens=24, temperature=0))
    whole = lm.generate("Once upon a time", max_tokens=24, temperature=0)
    assert "".join(part.text for part in parts) == whole.text
    assert tuple(token for part in parts for token in part.token_ids or ()) == whole.token_ids

    top = lm.generate("The sky is", max_tokens=2, temperature=0, logprobs=5).samples[0]
    assert top.top_logprobs is not None
    assert all(len(one) >= 5 for one in top.top_logprobs)
    assert lm.count_tokens("The capital of France is") == 5
    with pytest.raises(Unsupported):
        lm.embed("a language model alone gives no embeddings on vLLM")


def test_given_continuations_get_their_log_probabilities(lm: LM) -> None:
    made = lm.generate("The capital of France is", max_tokens=6, temperature=0)
    assert made.prompt_token_ids is not None
    assert made.token_ids is not None
    (given,) = lm.logprobs([list(made.prompt_token_ids)], [list(made.token_ids)])
    assert given.token_ids == made.token_ids
    assert given.logprobs == pytest.approx(made.samples[0].logprobs, abs=1e-3)


def test_a_tree_grows_in_token_space(lm: LM) -> None:
    beams = [Beam.start([{"role": "user", "content": "How do I boil an egg? Use short lines."}])]
    for depth in (1, 2):
        (children,) = lm.step(beams[:1], n=2, stop="\n", max_tokens=48, temperature=0.7, seed=1)
        assert len(children) == 2
        for child in children:
            assert len(child.steps) == depth
            assert child.text == "".join(child.steps)
            assert child.session == beams[0].session
            assert child.done or child.text.endswith("\n")
        beams = [child for child in children if not child.done] or children
        if beams[0].done:
            break


def test_a_stream_that_is_closed_leaves_the_engine(platform: Platform, lm: LM) -> None:
    stream = lm.stream("Tell a very long story.", max_tokens=900, temperature=0, ignore_eos=True)
    next(stream)
    urls = addresses(platform).values()
    eventually(lambda: sum(map(running, urls)), until=lambda n: n == 1, what="a running request")
    stream.close()
    eventually(
        lambda: sum(map(running, urls)),
        until=lambda n: n == 0,
        timeout=1.0,
        interval=0.05,
        what="an idle engine",
    )


def test_more_than_the_limit_is_refused_with_a_time_and_the_rest_answered(
    platform: Platform, lm: LM
) -> None:
    url = next(iter(addresses(platform).values()))
    body = {"prompt": "Go on:", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    headers = platform.headers()

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=300)

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, range(200)))
    codes = {code: [a for a in answers if a.status_code == code] for code in (200, 429)}
    assert len(codes[200]) + len(codes[429]) == 200, {a.status_code for a in answers}
    assert len(codes[200]) >= MAX_QUEUED
    assert codes[429], "two hundred at once are over the limit"
    assert all(int(a.headers["retry-after"]) >= 1 for a in codes[429])
    assert len({a.json()["choices"][0]["text"] for a in codes[200]}) == 1
    # The client waits and finds a place for each.
    assert len(lm.generate(["Go on:"] * 100, max_tokens=4, temperature=0)) == 100


def test_fastchat_asks_the_same_worker(platform: Platform, lm: LM) -> None:
    url = next(iter(addresses(platform).values()))
    expected = lm.generate(PROMPTS[0], max_tokens=8, temperature=0).text
    asked = {"model": NAME, "prompt": PROMPTS[0], "max_new_tokens": 8, "temperature": 0, "n": 1}
    with httpx.Client(base_url=url, headers=platform.headers(), timeout=60) as client:
        answer = client.post("/worker_generate", json={**asked, "echo": False}).json()
        stream = client.post("/worker_generate_stream", json={**asked, "echo": False})
    assert answer["text"] == [expected]
    frames = stream.content.split(b"\0")
    assert json.loads(frames[-2])["text"] == [expected]


def test_a_worker_killed_in_the_middle_of_a_stream_loses_and_doubles_nothing(
    platform: Platform, lm: LM
) -> None:
    options: dict[str, Any] = {"max_tokens": 120, "temperature": 0, "ignore_eos": True}
    undisturbed = lm.generate("The history of the sea", **options)
    parts = []
    victim = None
    for part in lm.stream("The history of the sea", **options):
        parts.append(part)
        if len(parts) == 10:
            (busy,) = [w for w, n in lm.in_flight().items() if n]
            victim = next(pod for pod, url in addresses(platform).items() if url == busy)
            pid = platform.cluster.container_pid(platform.namespace, victim, "worker")
            os.kill(pid, signal.SIGKILL)
    assert victim is not None, "the stream was over before its worker was killed"
    assert tuple(t for part in parts for t in part.token_ids or ()) == undisturbed.token_ids
    assert "".join(part.text for part in parts) == undisturbed.text
    assert parts[-1].finish_reason == "length"


def test_a_dead_engine_restarts_its_pod_and_no_call_fails(platform: Platform, lm: LM) -> None:
    undisturbed = lm.generate(PROMPTS, max_tokens=48, temperature=0, ignore_eos=True)
    pod = next(iter(addresses(platform)))
    core = engine_pid(platform, pod)
    killer = threading.Timer(0.7, os.kill, (core, signal.SIGKILL))
    killer.start()
    answers = lm.generate(PROMPTS, max_tokens=48, temperature=0, ignore_eos=True)
    assert not killer.is_alive(), "the batch was over before the engine was killed"
    assert [a.token_ids for a in answers] == [a.token_ids for a in undisturbed]
    eventually(
        lambda: [
            status["restartCount"]
            for one in platform.pods(NAME)
            if one["metadata"]["name"] == pod
            for status in one["status"]["containerStatuses"]
        ],
        until=lambda counts: counts in ([1], [2]),
        timeout=60,
        what="a restart of the pod",
    )


def test_adapters_come_and_go_without_a_restart(platform: Platform, lm: LM) -> None:
    name, prompt = "tiny", "The capital of France is"
    write_adapter(platform.volume() / FOLDER / "adapters" / name, seed=5)
    pods = {pod["metadata"]["uid"] for pod in platform.pods(NAME)}
    plain = lm.generate(prompt, max_tokens=8, temperature=0).token_ids

    def adapters(*wanted: dict[str, str]) -> None:
        patch = {"spec": {"lora": {"adapters": wanted}}}
        platform.kubectl("patch", "mw", NAME, "--type=merge", "-p", json.dumps(patch))

    def served() -> list[Any]:
        return [
            (one["name"], one["state"], one.get("loadedReplicas"))
            for one in platform.object(NAME)["status"].get("adapters", [])
        ]

    adapters({"name": name, "path": f"{FOLDER}/adapters/{name}"})
    eventually(served, until=lambda now: now == [(name, "Loaded", 2)], timeout=60, what="adapter")
    assert platform.condition(NAME, "AdaptersLoaded")["status"] == "True"
    with platform.lm(NAME, adapter=name) as tuned:
        assert tuned.generate(prompt, max_tokens=8, temperature=0).token_ids != plain
    assert lm.generate(prompt, max_tokens=8, temperature=0).token_ids == plain

    adapters()
    eventually(served, until=lambda now: now == [], timeout=60, what="no adapter")

    headers = platform.headers()

    def unknown() -> list[str]:
        urls = addresses(platform).values()
        found = [httpx.get(f"{url}/v1/models", headers=headers).json() for url in urls]
        return [one["id"] for answer in found for one in answer["data"]]

    eventually(unknown, until=lambda ids: name not in ids, timeout=60, what="workers without it")
    with platform.lm(NAME, adapter=name) as tuned, pytest.raises(ModelNotServed):
        tuned.generate(prompt, max_tokens=1)
    assert {pod["metadata"]["uid"] for pod in platform.pods(NAME)} == pods


def test_scaling_in_under_load_answers_every_accepted_request(platform: Platform, lm: LM) -> None:
    lm.generate("warm", max_tokens=1)

    def ask(n: int) -> int | None:
        answer = lm.generate(f"{n}:", max_tokens=64, temperature=0, ignore_eos=True)
        return len(answer.token_ids or ())

    with ThreadPoolExecutor(16) as pool:
        asked = pool.map(ask, range(48))
        platform.kubectl("scale", f"mw/{NAME}", "--replicas=1")
        assert list(asked) == [64] * 48
    platform.wait_ready(NAME, 1)
    platform.kubectl("scale", f"mw/{NAME}", "--replicas=2")


def test_a_reward_model_on_vllm_scores_as_the_transformers_backend(
    platform: Platform, worker: str
) -> None:
    platform.kubectl("delete", "mw", worker, "--wait=true")
    pairs = [
        (QUESTION, f"3 + 4 is 7.\n\n7 times 2 is {n}.\n\nThe answer is {n}.") for n in (14, 15)
    ]
    platform.apply_reward("slow-judge", scoring(cache=None))
    platform.wait_ready("slow-judge", 1, short="rwm")
    with platform.rm("slow-judge") as rm:
        expected = rm.score(pairs)
    platform.kubectl("delete", "rwm", "slow-judge", "--wait=true")
    platform.apply_reward(
        "fast-judge", scoring(cache=None), backend="VLLM", model=MODEL, vllm=ENGINE
    )
    platform.wait_ready("fast-judge", 1, timeout=480, short="rwm")
    with platform.rm("fast-judge") as rm:
        found = rm.score(pairs)
        again = rm.score([pairs[1], pairs[0]])
    assert platform.condition("fast-judge", "ScoringVerified", "rwm")["status"] != "False"
    assert [len(one.steps) for one in found] == [3, 3]
    for mine, repeated, theirs in zip(found, reversed(again), expected, strict=True):
        assert mine.step_scores == pytest.approx(theirs.step_scores, abs=1e-4)
        assert mine.step_scores == pytest.approx(repeated.step_scores, abs=1e-6)
    platform.kubectl("delete", "rwm", "fast-judge", "--wait=true")
