"""`top`: rows from what workers say of themselves, whichever way they are reached."""

import json
from typing import Any

import pytest

from modelworker.cli._app import run
from modelworker.cli._cluster import Reply, proxy_path
from modelworker.cli._metrics import Sample, Usage, sample_of, usage_of
from modelworker_api import kube, wire
from tests.cli_support import OBJECTS, PODS, Clock, FakeCluster, body, forbidden, pod, world

TEXT = """\
# HELP modelworker_requests_running Requests that run
modelworker_requests_running 3.0
modelworker_requests_waiting 1.0
modelworker_prompt_tokens_total {prompt}
modelworker_completion_tokens_total {tokens}
modelworker_scored_tokens_total 0.0
modelworker_requests_total{{route="/v1/chat",code="200"}} 7.0
"""


def text(tokens: float = 0, prompt: float = 0) -> str:
    return TEXT.format(tokens=tokens, prompt=prompt)


@pytest.mark.parametrize(
    ("extra", "load", "kv_cache"),
    [
        pytest.param("", "3 1 0.41", 0.41, id="header"),
        pytest.param("", "3 1 -", None, id="none"),
        pytest.param("", None, None, id="no-header"),
        pytest.param('vllm:kv_cache_usage_perc{engine="0"} 0.5\n', None, 0.5, id="vllm"),
    ],
)
def test_kv_cache(extra: str, load: str | None, kv_cache: float | None) -> None:
    sample = sample_of(text(5, 9) + extra, load, 1.0)
    assert sample == Sample(1.0, 3, 1, kv_cache, 5.0, 9.0)


def test_tokens_of_vllm_are_counted_when_they_are_made() -> None:
    """The worker's own counters move only when an answer is over."""
    vllm = 'vllm:generation_tokens_total{engine="0"} 70\nvllm:prompt_tokens_total 80\n'
    sample = sample_of(text(5, 9) + vllm, None, 1.0)
    assert (sample.tokens, sample.prompt_tokens) == (70.0, 80.0)


def test_metrics_of_something_else() -> None:
    with pytest.raises(ValueError, match="not those of a worker"):
        sample_of("go_goroutines 7\n", None, 0.0)


@pytest.mark.parametrize(
    ("before", "rates"),
    [
        pytest.param(None, (None, None), id="first-look"),
        pytest.param(Sample(0.0, 0, 0, None, 50.0, 10.0), (25.0, 5.0), id="two-looks"),
        pytest.param(Sample(0.0, 0, 0, None, 500.0, 10.0), (None, None), id="started-again"),
    ],
)
def test_rates(before: Sample | None, rates: tuple[float | None, float | None]) -> None:
    now = Sample(2.0, 3, 1, None, 100.0, 20.0)
    assert usage_of(now, before) == Usage(3, 1, None, *rates)


WORKERS = [{"pod": "p-1", "state": "Ready", "address": "10.0.0.1:8000"}]


def cluster(clock: Clock, **more: Any) -> FakeCluster:
    """A worker behind the API server's proxy that makes 10 tokens a second."""
    path = proxy_path("ns", "p-1", "/metrics")
    return FakeCluster(
        {
            OBJECTS[kube.MODELWORKER]: [body("policy", workers=WORKERS)],
            OBJECTS[kube.REWARDMODEL]: [],
            PODS: [pod("p-1", "policy")],
            path: lambda: Reply(text(clock.now * 10), {wire.HEADER_LOAD: "3 1 0.41"}),
            **more,
        }
    )


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    assert run(["top"], world(cluster(clock), clock=clock)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME        WORKER   RUNNING   WAITING   KV CACHE   TOKENS/S   PROMPT TOKENS/S",
        "mw/policy   p-1      3         1         41%        10.0       0.0",
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    assert run(["top", "-o", "json"], world(cluster(clock), clock=clock)) == 0
    found = json.loads(capsys.readouterr().out)["items"]
    assert [(one["worker"], one["tokensPerSecond"], one["kvCache"]) for one in found] == [
        ("p-1", 10.0, 0.41)
    ]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        pytest.param(forbidden("no pods/proxy"), 3, "no pods/proxy", id="denied"),
        pytest.param("something else", 1, "not those of a worker", id="stranger"),
    ],
)
def test_worker_that_does_not_say(
    capsys: pytest.CaptureFixture[str], answer: object, code: int, words: str
) -> None:
    clock = Clock()
    path = proxy_path("ns", "p-1", "/metrics")
    assert run(["top"], world(cluster(clock, **{path: answer}), clock=clock)) == code
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_no_worker_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    fake = cluster(clock, **{OBJECTS[kube.MODELWORKER]: [body("policy", reason="Loading")]})
    assert run(["top", "policy"], world(fake, clock=clock)) == 1
    assert "no worker is ready" in capsys.readouterr().err
