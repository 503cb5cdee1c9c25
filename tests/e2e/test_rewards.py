"""Reward models on the whole path: apply, score, break."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelworker import RMCall, Score, ScoreError
from tests.e2e.conftest import ROOT, Platform
from tests.engine_support import random_model, tokenizer
from tests.support import eventually

PRM = yaml.safe_load((ROOT / "examples/smollm2-prm.yaml").read_text())["spec"]["scoring"]
CUSTOM = PRM["custom"]
QUESTION = "What is 3 + 4, times 2?"


def scoring(**changes: Any) -> dict[str, Any]:
    """The example's scoring, changed; None takes a field out."""
    return {key: value for key, value in {**PRM, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def prm(platform: Platform) -> Iterator[str]:
    """Name of a RewardModel with two ready replicas."""
    platform.apply_reward("smollm2-prm", PRM, replicas=2)
    platform.wait_ready("smollm2-prm", 2, short="rwm")
    yield "smollm2-prm"
    platform.kubectl("delete", "rwm", "smollm2-prm", "--wait=true")


@pytest.fixture
def rm(platform: Platform, prm: str) -> Iterator[RMCall]:
    platform.wait_ready(prm, 2, short="rwm")
    with platform.rm(prm) as made:
        yield made


def test_scores_are_those_of_transformers(rm: RMCall, model_folder: Path) -> None:
    steps = ["3 + 4 is 7: so far so good.", "7 times 2 is 15.", "The answer is 15."]
    file = next(model_folder.glob("*.gguf")).name
    tok: Any = AutoTokenizer.from_pretrained(model_folder, gguf_file=file)
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(model_folder, gguf_file=file, dtype=torch.float32).eval()
    plus, minus = (tok.encode(text, add_special_tokens=False)[0] for text in (" +", " -"))
    expected = []
    written = (
        "Each step is followed by a verdict: + if it is right, - if it is wrong.\n\n"
        f"Question: {QUESTION}\n"
    )
    for step in steps:
        written += f"Step: {step}\nVerdict:"
        ids = torch.tensor([tok.encode(written, add_special_tokens=False)])
        with torch.inference_mode():
            logits = model(ids).logits[0, -1]
        expected.append(logits[[plus, minus]].softmax(dim=-1)[0].item())
        written += " +\n"
    answer = "\n".join(steps)
    score = rm.score((QUESTION, answer))
    assert [step.value for step in score.steps] == pytest.approx(expected, abs=1e-5)
    assert float(score) == min(step.value for step in score.steps)
    assert [answer[s.start_char : s.end_char] for s in score.steps] == steps
    assert rm((QUESTION, "@".join(steps)), lm_step_tag="@") == pytest.approx(expected, abs=1e-5)
    assert rm([(QUESTION, answer)]) == [pytest.approx(expected, abs=1e-5)]


def test_kubectl_shows_type_and_family(platform: Platform, prm: str) -> None:
    header, row = platform.kubectl("get", "rwm", prm).splitlines()
    assert {"TYPE", "FAMILY"} <= set(header.split())
    assert {"Process", "Custom"} <= set(row.split())
    verified = platform.condition(prm, "ScoringVerified", "rwm")
    assert verified["status"] == "True", verified


def test_worker_killed_within_a_batch_of_500_loses_and_doubles_no_score(
    platform: Platform, prm: str, rm: RMCall
) -> None:
    pairs = [
        (f"What is {n} + {n}?", f"I add {n} and {n}.\nThe sum is {2 * n}.\nSo {2 * n} it is.")
        for n in range(500)
    ]
    victim = platform.pods(prm, "RewardModel")[0]["metadata"]["name"]
    pid = platform.cluster.container_pid(platform.namespace, victim, "worker")
    batch = rm.submit(pairs)
    done_at_kill: list[int] = []

    def kill() -> None:
        done_at_kill.append(batch.done)
        os.kill(pid, signal.SIGKILL)

    killer = threading.Timer(1.0, kill)
    killer.start()
    arrived = []
    for index, score in batch.as_completed():
        assert isinstance(score, Score), score
        arrived.append(index)
    killer.join()
    assert done_at_kill[0] < 500, "the batch was over before the worker was killed"
    assert sorted(arrived) == list(range(500))
    assert batch.errors == {}
    scores = batch.result()
    platform.wait_ready(prm, 2, short="rwm")
    undisturbed = rm.score(pairs)
    assert [list(score.step_scores) for score in scores] == [
        pytest.approx(list(score.step_scores), abs=1e-4) for score in undisturbed
    ]
    assert len({float(score) for score in scores}) > 400, "scores do not depend on the text"


def test_a_text_over_the_limit_fails_alone(platform: Platform) -> None:
    platform.apply_reward("short", scoring(maxInputTokens=256))
    platform.wait_ready("short", 1, short="rwm")
    with platform.rm("short") as rm:
        long = "word " * 300
        scores = rm.score(
            [(QUESTION, "7."), (QUESTION, long), (QUESTION, "14.")], on_error="return"
        )
        assert [type(one) for one in scores] == [Score, type(scores[1]), Score]
        assert isinstance(scores[1], ScoreError)
        assert "maximum context length is 256 tokens" in str(scores[1])
        with pytest.raises(ScoreError, match="maximum context length"):
            rm.score([(QUESTION, "7."), (QUESTION, long)])
    platform.kubectl("delete", "rwm", "short")


def broken(folder: Path) -> None:
    """A checkpoint whose every score is NaN."""
    model = random_model("llama")
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


@pytest.mark.parametrize(
    ("reason", "words", "custom", "model"),
    [
        pytest.param(
            "TokenNotInVocabulary",
            "one token",
            {
                **CUSTOM,
                "step": {"tag": "verdict of the step", "format": "Step: {step}\n{tag} +\n"},
            },
            None,
            id="tag-of-many-tokens",
        ),
        pytest.param(
            "NonFiniteScore",
            "",
            {**CUSTOM, "tokens": {"positive": "+", "negative": "-"}},
            "broken",
            id="nan",
        ),
    ],
)
def test_what_scores_wrongly_never_becomes_ready(
    platform: Platform, reason: str, words: str, custom: dict[str, Any], model: str | None
) -> None:
    spec: dict[str, Any] = {}
    if model:
        broken(platform.volume() / model)
        source = {"pvc": {"claimName": "models", "path": model}}
        spec["model"] = {"source": source, "dtype": "float32"}
    platform.apply_reward("wrong", scoring(custom=custom), **spec)

    def seen() -> Any:
        verified = platform.condition("wrong", "ScoringVerified", "rwm")
        ready = platform.condition("wrong", "Ready", "rwm")
        return verified, ready

    def told(conditions: Any) -> bool:
        return all(
            one.get("status") == "False" and one.get("reason") == reason for one in conditions
        )

    verified, _ = eventually(seen, until=told, timeout=120, what=f"conditions with {reason}")
    assert words in verified["message"]
    status = platform.object("wrong", "rwm")["status"]
    assert status.get("readyReplicas", 0) == 0
    platform.kubectl("delete", "rwm", "wrong")


@pytest.mark.parametrize(
    ("example", "arguments"),
    [
        pytest.param("best_of_n.py", ["-n", "3", "--max-tokens", "48"], id="best-of-n"),
        pytest.param("beam_search.py", ["--depth", "3", "--max-tokens", "32"], id="beam-search"),
    ],
)
def test_example(
    platform: Platform, two_workers: str, prm: str, example: str, arguments: list[str]
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / example),
            *["--policy", two_workers, "--reward", prm, *arguments],
        ],
        env=platform.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.strip().splitlines()
    assert 0 < float(last.split()[0]) < 1, done.stdout


def test_deleting_a_reward_model_leaves_a_model_worker_of_the_same_name(
    platform: Platform, two_workers: str
) -> None:
    platform.apply_reward(two_workers, PRM, replicas=0)

    def deployments() -> set[str]:
        found = json.loads(platform.kubectl("get", "deployments", "-o", "json"))["items"]
        return {one["metadata"]["name"] for one in found}

    eventually(
        deployments, until=lambda names: f"rwm-{two_workers}" in names, what="its Deployment"
    )
    platform.kubectl("delete", "rwm", two_workers)
    eventually(
        deployments, until=lambda names: f"rwm-{two_workers}" not in names, what="no Deployment"
    )
    assert f"mw-{two_workers}" in deployments()
    platform.wait_ready(two_workers, 2)
