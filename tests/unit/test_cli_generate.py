"""`generate`: what it writes, and what it refuses before the API server would."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from modelworker.cli import _generate
from modelworker.cli._app import run
from modelworker.cli._verbs_calls import Family
from tests.cli_support import world

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "crds/rewardmodel.yaml").read_text())
SPEC = SCHEMA["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SCORING = SPEC["properties"]["scoring"]


@pytest.mark.parametrize(
    ("flags", "spec"),
    [
        pytest.param(
            "--model a/b --revision main",
            {"model": {"source": {"huggingFace": {"repo": "a/b", "revision": "main"}}}},
            id="hub",
        ),
        pytest.param(
            "--pvc models --path x --gguf m.gguf --dtype float32 --gpus 0 --replicas 3",
            {
                "model": {
                    "source": {"pvc": {"claimName": "models", "path": "x"}},
                    "ggufFile": "m.gguf",
                    "dtype": "float32",
                },
                "replicas": 3,
                "gpu": {"count": 0},
            },
            id="volume",
        ),
        pytest.param(
            "--pvc models --backend VLLM --gpus 2 --auth None",
            {
                "model": {"source": {"pvc": {"claimName": "models"}}},
                "backend": "VLLM",
                "gpu": {"count": 2},
                "auth": {"mode": "None"},
            },
            id="vllm",
        ),
        pytest.param(
            "--pvc m --reward --family QwenMathPRM --aggregation Min",
            {
                "model": {"source": {"pvc": {"claimName": "m"}}},
                "scoring": {"type": "Process", "family": "QwenMathPRM", "aggregation": "Min"},
            },
            id="process-family",
        ),
        pytest.param(
            "--pvc m --reward --family ArmoRM",
            {
                "model": {"source": {"pvc": {"claimName": "m"}}},
                "scoring": {"type": "Outcome", "family": "ArmoRM"},
            },
            id="outcome-family",
        ),
    ],
)
def test_written(capsys: pytest.CaptureFixture[str], flags: str, spec: dict[str, Any]) -> None:
    assert run(["generate", "x", "-n", "ns", *flags.split()], world()) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["spec"] == spec
    assert found["metadata"] == {"name": "x", "namespace": "ns"}
    assert found["kind"] == ("RewardModel" if "--reward" in flags else "ModelWorker")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("Bad --pvc m", "'Bad' can be no name", id="name"),
        pytest.param(f"{'a' * 51} --pvc m", "at most 50 characters", id="long-name"),
        pytest.param("x", "say where the model is", id="no-source"),
        pytest.param("x --pvc m --model a/b", "say where the model is", id="two-sources"),
        pytest.param("x --model gpt2", "must be OWNER/NAME", id="repo"),
        pytest.param("x --model a/..b", "must be OWNER/NAME", id="dots"),
        pytest.param("x --model a/b --revision -x", "'-x' must be a commit", id="revision"),
        pytest.param("x --model a/b --path p", "--path is a folder of --pvc", id="path-of-hub"),
        pytest.param("x --pvc m --revision r", "--revision is for --model", id="revision-of-pvc"),
        pytest.param("x --pvc m --path /abs", "must be relative", id="absolute"),
        pytest.param("x --pvc m --path a/../b", "without '..'", id="up"),
        pytest.param("x --pvc M!", "can be no name of a claim", id="claim"),
        pytest.param("x --pvc m --gguf d/m.gguf", "must be a file name", id="gguf-folder"),
        pytest.param("x --pvc m --gguf m.gguf --backend VLLM", "leave one out", id="gguf-vllm"),
        pytest.param("x --pvc m --replicas -1", "--replicas must be 0 to 1000", id="replicas"),
        pytest.param("x --pvc m --gpus 17", "--gpus must be 0 to 16", id="gpus"),
        pytest.param("x --pvc m --type Process", "--type is for a RewardModel", id="not-reward"),
        pytest.param("x --pvc m --reward", "say --type Process or Outcome", id="no-type"),
        pytest.param(
            "x --pvc m --reward --family ArmoRM --type Process", "is of --type Outcome", id="type"
        ),
        pytest.param(
            "x --pvc m --reward --family ArmoRM --aggregation Min", "gives one score", id="outcome"
        ),
        pytest.param(
            "x --pvc m --reward --family SkyworkPRM --backend VLLM", "not served exactly", id="vllm"
        ),
        pytest.param("x --pvc m --reward --family Custom", "than flags can say", id="custom"),
        pytest.param("x --pvc m --reward --family EurusPRM", "than flags can say", id="implicit"),
        pytest.param("x --pvc m --reward --family Other", "--family", id="unknown-family"),
    ],
)
def test_refused(capsys: pytest.CaptureFixture[str], arguments: str, words: str) -> None:
    assert run(["generate", *arguments.split()], world()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1
    assert words in said.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param("--model a/b", "revision main may move", id="branch"),
        pytest.param("--pvc m --backend VLLM", "an image for CPUs", id="vllm-without-gpus"),
        pytest.param(f"--model a/b --revision {'0' * 40}", "", id="commit"),
    ],
)
def test_remarks(capsys: pytest.CaptureFixture[str], flags: str, words: str) -> None:
    assert run(["generate", "x", *flags.split()], world()) == 0
    assert words in (said := capsys.readouterr().err)
    assert bool(said) == bool(words)


def test_families_are_those_of_the_crd() -> None:
    assert set(get_args(Family)) == set(SCORING["properties"]["family"]["enum"])


def test_types_of_families_are_those_of_the_crd() -> None:
    rules = {rule["message"]: rule["rule"] for rule in SCORING["x-kubernetes-validations"]}
    outcome = rules["must be Outcome for this family, which scores the whole answer"]
    assert {f"'{family}'" for family in _generate.OUTCOME_FAMILIES} == set(
        outcome.split("[")[1].split("]")[0].split(", ")
    )
