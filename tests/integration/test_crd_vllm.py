"""What the API server takes and refuses of backend VLLM, and in which words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelworker_api import engine, kube, rewards
from modelworker_devcluster import DevCluster
from modelworker_devcluster.errors import KubectlFailed
from modelworker_operator.spec import parse
from tests.operator_manifests import dry_run, manifest
from tests.operator_support import install_crds

HUB = {"repo": "org/model", "revision": "abc123"}
KINDS = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.kind) for kind in kube.KINDS])


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with the CRDs in it."""
    install_crds(control_plane)
    return control_plane


def vllm(kind: kube.Kind = kube.MODELWORKER, **changes: Any) -> str:
    """A small valid object of backend VLLM as JSON, with fields set by dotted path."""
    fields = {path.replace("__", "."): value for path, value in changes.items()}
    return manifest(kind, {"backend": "VLLM", **fields})


def lora(*adapters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"lora": {"adapters": list(adapters), **fields}}


def arguments(*words: str) -> dict[str, Any]:
    return {"vllm": {"extraArgs": list(words)}}


def refused(api: DevCluster, manifest: str) -> str:
    with pytest.raises(KubectlFailed) as failed:
        dry_run(api, manifest)
    return str(failed.value)


BOTH: list[Any] = [
    pytest.param({}, id="least"),
    pytest.param(
        {"gpu": {"count": 8}, "parallelism": {"tensor": 4, "pipeline": 2}}, id="all-gpus-used"
    ),
    pytest.param({"gpu": {"count": 2}, "parallelism": {"tensor": 1}}, id="gpus-left-over"),
    pytest.param({"parallelism": {}}, id="one-cpu"),
    pytest.param(
        {
            "vllm": {
                "gpuMemoryUtilization": 0.5,
                "kvCacheMemory": "512Mi",
                "enablePrefixCaching": False,
                "quantization": "fp8",
                "enforceEager": True,
                "extraArgs": ["--seed", "-1", "--block_size=16", "--compilation-config.mode=3"],
            }
        },
        id="engine",
    ),
    pytest.param({"vllm": {"gpuMemoryUtilization": 1, "kvCacheMemory": 1073741824}}, id="numbers"),
    pytest.param({"vllm": {"extraArgs": [f"--x{n}" for n in range(64)]}}, id="64-arguments"),
    pytest.param(
        {"sharedMemory": "2Gi", "resources": {"limits": {"memory": "2048Mi"}}}, id="shared-memory"
    ),
]
ADAPTERS = (
    {"name": "math", "path": "adapters/math"},
    {"name": "org/code:v2", "huggingFace": HUB},
)
TAKEN: list[Any] = [
    pytest.param(lora(), id="adapters-later"),
    pytest.param(lora(*ADAPTERS, maxRank=320, maxLoaded=2), id="adapters"),
    pytest.param(
        {
            "vllm": {
                "logprobsMode": "Processed",
                "maxLogprobs": -1,
                "toolCallParser": "hermes",
                "reasoningParser": "deepseek_r1",
                "developmentRoutes": {"tokenSecretRef": {"name": "trainer"}},
            }
        },
        id="language-model",
    ),
    pytest.param(
        {"model.source": {"huggingFace": HUB}, **lora({"name": "math", "huggingFace": HUB})},
        id="all-of-the-hub",
    ),
]


@KINDS
@pytest.mark.parametrize("changes", BOTH)
def test_taken_of_both_kinds(api: DevCluster, kind: kube.Kind, changes: dict[str, Any]) -> None:
    parse(kind, dry_run(api, vllm(kind, **changes)))


@pytest.mark.parametrize("changes", TAKEN)
def test_taken(api: DevCluster, changes: dict[str, Any]) -> None:
    parse(kube.MODELWORKER, dry_run(api, vllm(**changes)))


def test_defaults(api: DevCluster) -> None:
    routes = {"developmentRoutes": {"tokenSecretRef": {"name": "t"}}}
    stored = dry_run(api, vllm(vllm=routes, lora={}, parallelism={}))["spec"]
    assert stored["vllm"] == {
        "enablePrefixCaching": True,
        "enforceEager": False,
        "logprobsMode": "Raw",
        "maxLogprobs": 20,
        "developmentRoutes": {"tokenSecretRef": {"name": "t", "key": "token"}},
    }
    assert stored["lora"] == {"maxRank": 16, "maxLoaded": 4}
    assert stored["parallelism"] == {"tensor": 1, "pipeline": 1}


@KINDS
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"backend": "vLLM"}, 'supported values: "Transformers", "VLLM"', id="backend"),
        pytest.param(
            {"backend": "Transformers", "vllm": {}},
            "spec.vllm: Invalid value: is for backend VLLM: remove it, or set backend",
            id="vllm",
        ),
        pytest.param(
            {"backend": "Transformers", "parallelism": {"tensor": 1}},
            "spec.parallelism: Invalid value: is for backend VLLM",
            id="parallelism",
        ),
        pytest.param(
            {"backend": "Transformers", "sharedMemory": "1Gi"},
            "spec.sharedMemory: Invalid value: is for backend VLLM",
            id="memory-of-transformers",
        ),
        pytest.param(
            {"model.ggufFile": "a.gguf"},
            "spec.model.ggufFile: Invalid value: cannot be loaded with backend VLLM: remove it",
            id="gguf",
        ),
        pytest.param(
            {"gpu": {"count": 2}, "parallelism": {"tensor": 2, "pipeline": 2}},
            "needs tensor * pipeline GPUs, and gpu.count is less: set gpu.count to that product",
            id="too-few-gpus",
        ),
        pytest.param(
            {"parallelism": {"tensor": 2}}, "needs tensor * pipeline GPUs", id="cpus-do-not-add"
        ),
        pytest.param({"parallelism": {"tensor": 0}}, "greater than or equal to 1", id="tensor-0"),
        pytest.param({"parallelism": {"data": 2}}, 'field "spec.parallelism.data"', id="data"),
        pytest.param({"vllm": {"gpuMemoryUtilization": 0}}, "at least 0.05", id="no-memory"),
        pytest.param({"vllm": {"gpuMemoryUtilization": 0.04}}, "at least 0.05", id="4-percent"),
        pytest.param({"vllm": {"gpuMemoryUtilization": 1.1}}, "or equal to 1", id="110-percent"),
        pytest.param(
            {"vllm": {"gpuMemoryUtilization": "0.9"}}, "must be of type number", id="text"
        ),
        pytest.param({"vllm": {"kvCacheMemory": "1.5"}}, "must be whole bytes", id="half-a-byte"),
        pytest.param({"vllm": {"kvCacheMemory": 0}}, "must be whole bytes", id="no-cache"),
        pytest.param({"vllm": {"kvCacheMemory": "lots"}}, "such as 512Mi", id="cache-lots"),
        pytest.param({"vllm": {"quantization": "fp8 --x"}}, "a method of vLLM", id="quantization"),
        pytest.param(
            arguments(*(f"--x{n}" for n in range(65))), "at most 64 items", id="65-arguments"
        ),
        pytest.param(arguments("--x=" + "y" * 2048), "may not be more than 2048", id="2-KB"),
        pytest.param({"sharedMemory": "0"}, "must be whole bytes", id="no-shared-memory"),
        pytest.param({"sharedMemory": "2Pi"}, "at most 1P", id="endless-shared-memory"),
        pytest.param(
            {"sharedMemory": "2Gi", "resources": {"limits": {"memory": "1Gi"}}},
            "must not be above resources.limits.memory, which it counts against",
            id="more-shared-memory-than-memory",
        ),
    ],
)
def test_refused_of_both_kinds(
    api: DevCluster, kind: kube.Kind, changes: dict[str, Any], message: str
) -> None:
    assert message in refused(api, vllm(kind, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"backend": "Transformers", "lora": {}},
            "spec.lora: Invalid value: is for backend VLLM",
            id="lora-of-transformers",
        ),
        pytest.param(lora(maxRank=24), "spec.lora.maxRank: Unsupported value: 24", id="rank"),
        pytest.param(lora({"name": "a"}), "set exactly one of path and huggingFace", id="nowhere"),
        pytest.param(
            lora({"name": "a", "path": "a", "huggingFace": HUB}), "set exactly one of", id="twice"
        ),
        pytest.param(lora({"name": "a", "path": "/a"}), "remove the leading '/'", id="absolute"),
        pytest.param(lora({"name": "a", "path": "a/../../b"}), "not contain '..'", id="dots"),
        pytest.param(lora({"name": "a b", "path": "a"}), "must begin with a letter", id="space"),
        pytest.param(lora({"name": "smol", "path": "a"}), "not have the name of the", id="object"),
        pytest.param(
            {"model.name": "served", **lora({"name": "served", "path": "a"})},
            "spec.lora.adapters: Invalid value: an adapter must not have the name of the model",
            id="served-name",
        ),
        pytest.param(
            lora({"name": "a", "path": "a"}, {"name": "a", "path": "b"}), "Duplicate", id="double"
        ),
        pytest.param(
            {"model.source": {"huggingFace": HUB}, **lora({"name": "a", "path": "a"})},
            "a model of the hub has none: use huggingFace",
            id="folder-of-a-repository",
        ),
        pytest.param(
            lora({"name": "a", "huggingFace": {"repo": "gpt2", "revision": "x"}}),
            "must be OWNER/NAME",
            id="repository",
        ),
        pytest.param(
            lora({"name": "a", "huggingFace": {"repo": "a/b"}}), "revision: Required", id="unpinned"
        ),
        pytest.param(
            lora(*({"name": f"a{n}", "path": "a"} for n in range(65))), "64 items", id="65-adapters"
        ),
        pytest.param(
            {"vllm": {"logprobsMode": "raw"}}, 'supported values: "Raw", "Processed"', id="logprobs"
        ),
        pytest.param({"vllm": {"maxLogprobs": -2}}, "or equal to -1", id="max-logprobs"),
        pytest.param({"vllm": {"toolCallParser": "a/b.py"}}, "a parser of vLLM", id="tool-parser"),
        pytest.param({"vllm": {"reasoningParser": ""}}, "a parser of vLLM", id="no-parser"),
        pytest.param(
            {"vllm": {"developmentRoutes": {}}}, "tokenSecretRef: Required", id="open-routes"
        ),
    ],
)
def test_refused(api: DevCluster, changes: dict[str, Any], message: str) -> None:
    assert message in refused(api, vllm(**changes))


@pytest.mark.parametrize("family", rewards.Family)
def test_only_families_that_vllm_serves_exactly(api: DevCluster, family: rewards.Family) -> None:
    scoring = {"scoring.type": "Process", "scoring.family": family.value}
    try:
        dry_run(api, vllm(kube.REWARDMODEL, **scoring))
        said = ""
    except KubectlFailed as failed:  # also of families that score otherwise
        said = str(failed)
    exactly = "spec.scoring.family: Invalid value: is not served exactly by backend VLLM"
    assert (exactly in said) is (family not in rewards.VLLM_FAMILIES)


def test_the_cache_of_scores_is_refused(api: DevCluster) -> None:
    said = refused(api, vllm(kube.REWARDMODEL, **{"scoring.cache": {"maxTokens": 1}}))
    assert "spec.scoring.cache: Invalid value: is for backend Transformers" in said


def test_the_example_of_the_reference_is_taken(api: DevCluster) -> None:
    page = (Path(__file__).parents[2] / "docs/modelworker.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    whole, part = (yaml.safe_load(block) for block in blocks)
    dry_run(api, json.dumps(whole))
    dry_run(api, manifest(kube.MODELWORKER, part["spec"]))


SPELLINGS: list[Any] = [
    pytest.param(lambda flag: f"--{flag}", id="plain"),
    pytest.param(lambda flag: f"--{flag}=1", id="equals"),
    pytest.param(lambda flag: f"--{flag.replace('-', '_')}", id="underscores"),
    pytest.param(lambda flag: f"--no-{flag}", id="negated"),
    pytest.param(lambda flag: f"--no_{flag.replace('-', '_')}=\nx", id="negated-underscores"),
    pytest.param(lambda flag: f"--{flag}.key=1", id="dotted"),
    pytest.param(lambda flag: f"--{flag[:-1]}", id="beginning"),
    pytest.param(lambda flag: f"-{flag}", id="one-dash"),
    pytest.param(lambda flag: f"---{flag}", id="three-dashes"),
]


@KINDS
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_reserved_arguments_are_refused(api: DevCluster, kind: kube.Kind, spelling: Any) -> None:
    flags = sorted(engine.RESERVED_ARGS)
    for start in range(0, len(flags), 64):
        words = [spelling(flag) for flag in flags[start : start + 64]]
        said = refused(api, vllm(kind, **arguments(*words)))
        assert [f"extraArgs[{n}]" in said for n in range(len(words))] == [True] * len(words)


OTHERS = [
    "--", "-", "-tp", "-O3", "--=x", "--no-", "--no_", "--.x", "-1", "--1", "-x=1", "model", "",
    "--models", "--seed", "--no-async-scheduling", "--async_scheduling", "--m", "--h", "--_model",
    "--no-no-model", "--modelx", "--model.x", "x --model", "--stream-interval=--model", "--é",
]  # fmt: skip


@pytest.mark.parametrize("word", OTHERS, ids=repr)
def test_other_arguments_are_judged_as_by_the_worker(api: DevCluster, word: str) -> None:
    found = vllm(**arguments(word))
    if engine.reserved_in((word,)):
        assert "extraArgs[0]: Invalid value" in refused(api, found)
    else:
        assert json.loads(found)["spec"]["vllm"] == {"extraArgs": [word]}
        dry_run(api, found)
