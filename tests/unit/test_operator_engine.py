"""Backend VLLM: from the spec to what the pod is told, and what the spec may not say."""

import json
from typing import Any

import pytest

from modelworker_api import engine, kube, rewards
from modelworker_api.adapters import Adapter
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.drift import needs_apply
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec import VLLMSpec, WorkerObject
from tests.operator_objects import CONFIG, modelworker, rewardmodel

HUB = {"repo": "a/b", "revision": "abc"}
MATH = {"name": "math", "path": "adapters/math/"}
CODE = {"name": "org/code", "huggingFace": {"repo": "org/code", "revision": "v1"}}


def vllm(**spec: Any) -> WorkerObject:
    return modelworker(backend="VLLM", **spec)


def engine_of(**spec: Any) -> VLLMSpec:
    found = vllm(**spec).spec.vllm
    assert found is not None
    return found


def pod_of(worker: WorkerObject) -> Manifest:
    template: Manifest = desired_children(worker, CONFIG)[0]["spec"]["template"]["spec"]
    return template


def env_of(worker: WorkerObject) -> dict[str, Any]:
    (container,) = pod_of(worker)["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def told(**spec: Any) -> dict[str, Any]:
    """The JSON in MODELWORKER_VLLM."""
    found: dict[str, Any] = json.loads(env_of(vllm(**spec))["MODELWORKER_VLLM"])
    return found


def test_the_least_says_nothing_but_the_backend() -> None:
    env = env_of(vllm())
    assert (env["MODELWORKER_BACKEND"], env["MODELWORKER_VLLM"]) == ("vllm", "{}")
    assert engine_of() == VLLMSpec(engine.VLLMConfig(), None, None, None)


def test_transformers_is_told_nothing_of_vllm() -> None:
    env = env_of(modelworker())
    assert env["MODELWORKER_BACKEND"] == "transformers"
    assert "MODELWORKER_VLLM" not in env
    assert modelworker().spec.vllm is None


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        pytest.param(
            {"gpu": {"count": 8}, "parallelism": {"tensor": 4, "pipeline": 2}},
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
            id="parallelism",
        ),
        pytest.param(
            {"vllm": {"gpuMemoryUtilization": 0.5}}, {"gpu_memory_utilization": 0.5}, id="share"
        ),
        pytest.param(
            {"vllm": {"kvCacheMemory": "512Mi"}}, {"kv_cache_memory_bytes": 2**29}, id="cache"
        ),
        pytest.param(
            {"vllm": {"kvCacheMemory": 1024}}, {"kv_cache_memory_bytes": 1024}, id="cache-bytes"
        ),
        pytest.param(
            {"vllm": {"enablePrefixCaching": False}}, {"enable_prefix_caching": False}, id="prefix"
        ),
        pytest.param({"vllm": {"quantization": "fp8"}}, {"quantization": "fp8"}, id="quantization"),
        pytest.param(
            {"vllm": {"logprobsMode": "Processed", "maxLogprobs": -1}},
            {"logprobs_mode": "processed_logprobs", "max_logprobs": -1},
            id="logprobs",
        ),
        pytest.param({"vllm": {"enforceEager": True}}, {"enforce_eager": True}, id="eager"),
        pytest.param(
            {"vllm": {"toolCallParser": "hermes", "reasoningParser": "deepseek_r1"}},
            {"tool_call_parser": "hermes", "reasoning_parser": "deepseek_r1"},
            id="parsers",
        ),
        pytest.param(
            {"vllm": {"developmentRoutes": {"tokenSecretRef": {"name": "s"}}}},
            {"development_routes": True},
            id="development",
        ),
        pytest.param({"vllm": {"extraArgs": ["--seed", "1"]}}, {"extra_args": ["--seed", "1"]}),
        pytest.param({"lora": {}}, {"max_lora_rank": 16}, id="lora"),
        pytest.param(
            {"lora": {"maxRank": 64, "maxLoaded": 2, "adapters": [MATH]}},
            {"max_lora_rank": 64, "max_loras": 2},
            id="lora-told-without-its-adapters",
        ),
    ],
)
def test_what_the_engine_is_told(spec: dict[str, Any], config: dict[str, Any]) -> None:
    assert told(**spec) == config


def test_the_text_survives_the_expansion_of_variables() -> None:
    words = ["--x", '{"a": "$(MODELWORKER_NAME) $$"}']
    text = env_of(vllm(vllm={"extraArgs": words}))["MODELWORKER_VLLM"]
    assert "$" not in text
    assert json.loads(text) == {"extra_args": words}


def test_the_token_of_development_routes_goes_by_reference() -> None:
    routes = {"developmentRoutes": {"tokenSecretRef": {"name": "s", "key": "k"}}}
    token = env_of(vllm(vllm=routes))["MODELWORKER_DEVELOPMENT_TOKEN"]
    assert token == {"secretKeyRef": {"name": "s", "key": "k"}}


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        pytest.param({}, None, id="one-process-needs-none"),
        pytest.param({"sharedMemory": "512Mi"}, "512Mi", id="given"),
        pytest.param({"gpu": {"count": 4}, "parallelism": {"tensor": 4}}, "4Gi", id="default"),
        pytest.param(
            {"gpu": {"count": 4}, "parallelism": {"tensor": 4}, "sharedMemory": "10Gi"},
            "10Gi",
            id="given-with-parallelism",
        ),
    ],
)
def test_shared_memory_is_bounded(spec: dict[str, Any], size: str | None) -> None:
    pod = pod_of(vllm(**spec))
    (container,) = pod["containers"]
    volumes = [one["emptyDir"] for one in pod["volumes"] if one["name"] == "shared-memory"]
    mounts = [one for one in container["volumeMounts"] if one["mountPath"] == "/dev/shm"]
    assert volumes == ([{"medium": "Memory", "sizeLimit": size}] if size else [])
    assert mounts == ([{"name": "shared-memory", "mountPath": "/dev/shm"}] if size else [])


def test_a_size_in_other_words_is_no_drift() -> None:
    desired, _ = desired_children(vllm(sharedMemory="2048Mi"), CONFIG)
    live, _ = desired_children(vllm(sharedMemory="2Gi"), CONFIG)
    live["metadata"] = desired["metadata"]
    assert not needs_apply(desired, live)
    other, _ = desired_children(vllm(sharedMemory="3Gi"), CONFIG)
    assert needs_apply(desired, {**other, "metadata": desired["metadata"]})


@pytest.mark.parametrize(
    ("source", "adapter_dir", "hub"),
    [
        pytest.param({"pvc": {"claimName": "c", "path": "base"}}, "/models", "1", id="pvc"),
        pytest.param({"hostPath": {"path": "/data/m"}}, "/models", "1", id="host-path"),
        pytest.param({"huggingFace": HUB}, None, "1", id="hub"),
        pytest.param(
            {"huggingFace": {**HUB, "tokenSecretRef": {"name": "s"}}}, None, None, id="hub-token"
        ),
    ],
)
def test_a_pod_that_takes_adapters_can_find_and_download_them(
    source: dict[str, Any], adapter_dir: str | None, hub: str | None
) -> None:
    worker = vllm(model={"source": source}, lora={})
    env = env_of(worker)
    assert env.get("MODELWORKER_ADAPTER_DIR") == adapter_dir
    assert env["HF_HOME"] == "/cache/huggingface"
    assert env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN") == hub
    assert {"name": "cache", "emptyDir": {}} in pod_of(worker)["volumes"]


def test_adapters_are_no_part_of_the_children() -> None:
    children = desired_children(vllm(lora={}), CONFIG)
    assert desired_children(vllm(lora={"adapters": [MATH, CODE]}), CONFIG) == children
    for other in ({"maxRank": 8}, {"maxLoaded": 2}):
        assert desired_children(vllm(lora=other), CONFIG) != children
    assert desired_children(vllm(), CONFIG) != children


def test_adapters_are_placed_in_the_container() -> None:
    assert engine_of(lora={"adapters": [MATH, CODE]}).adapters == (
        Adapter(name="math", source="local", location="/models/adapters/math"),
        Adapter(name="org/code", source="huggingFace", location="org/code", revision="v1"),
    )
    assert engine_of(lora={}).adapters == ()


def test_a_change_of_backend_is_a_new_template() -> None:
    before, service = desired_children(modelworker(), CONFIG)
    after, same_service = desired_children(vllm(), CONFIG)
    assert needs_apply(after, before)
    assert before["spec"]["selector"] == after["spec"]["selector"]
    assert service == same_service


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"backend": "Transformers", "vllm": {"enforceEager": True}},
            "spec.vllm is for backend VLLM: remove it",
            id="vllm",
        ),
        pytest.param(
            {"backend": "Transformers", "lora": {}}, "spec.lora is for backend VLLM", id="lora"
        ),
        pytest.param(
            {"model": {"source": {"pvc": {"claimName": "c"}}, "ggufFile": "a.gguf"}},
            "spec.model.ggufFile cannot be loaded with backend VLLM",
            id="gguf",
        ),
        pytest.param(
            {"gpu": {"count": 2}, "parallelism": {"tensor": 2, "pipeline": 2}},
            "needs tensor * pipeline = 4 GPUs, gpu.count is 2; set gpu.count to 4",
            id="gpus",
        ),
        pytest.param(
            {"parallelism": {"tensor": 0}}, "spec.parallelism.tensor is 0", id="parallelism"
        ),
        pytest.param(
            {"vllm": {"kvCacheMemory": "1.5"}}, "set whole bytes, such as 512Mi", id="half-a-byte"
        ),
        pytest.param({"sharedMemory": "lots"}, "spec.sharedMemory is 'lots'", id="shared-memory"),
        pytest.param(
            {"vllm": {"gpuMemoryUtilization": 2}}, "spec.vllm: gpu_memory_utilization", id="share"
        ),
        pytest.param(
            {"vllm": {"extraArgs": ["--x", "--no_enforce_eager"]}},
            "spec.vllm.extraArgs may not hold --no_enforce_eager",
            id="reserved",
        ),
        pytest.param({"vllm": {"extraArgs": "--x"}}, "must be a list of strings", id="words"),
        pytest.param(
            {"vllm": {"enforceEager": "yes"}}, "spec.vllm.enforceEager is 'yes'", id="flag"
        ),
        pytest.param(
            {"vllm": {"developmentRoutes": {}}},
            "spec.vllm.developmentRoutes.tokenSecretRef.name is missing",
            id="open-routes",
        ),
        pytest.param(
            {"lora": {"adapters": [{"name": "a"}]}}, "needs exactly one of path and", id="nowhere"
        ),
        pytest.param(
            {"lora": {"adapters": [{"name": "a", "path": "../b"}]}},
            "set a relative path without '..'",
            id="out-of-the-volume",
        ),
        pytest.param(
            {"model": {"source": {"huggingFace": HUB}}, "lora": {"adapters": [MATH]}},
            "a model of the hub has none; set huggingFace",
            id="folder-of-a-repository",
        ),
        *(
            pytest.param(
                {
                    "model": {"name": "served", "source": {"pvc": {"claimName": "c"}}},
                    "lora": {"adapters": [{**MATH, "name": name}]},
                },
                f"{name!r} is a name of the model itself",
                id=f"named-{name}",
            )
            for name in ("served", "smol", "ns/smol")
        ),
    ],
)
def test_refused_with_the_field_and_what_to_do(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        modelworker(**{"backend": "VLLM", **spec})
    assert message in str(refused.value)


@pytest.mark.parametrize("family", rewards.Family)
def test_only_families_that_vllm_serves_exactly(family: rewards.Family) -> None:
    scoring: dict[str, Any] = {"family": family.value}
    if family in rewards.VLLM_FAMILIES:
        if family is rewards.Family.CUSTOM:
            tokens = {"positive": "+", "negative": "-"}
            custom = {"template": {"chat": {}}, "step": {"tag": "x"}, "tokens": tokens}
            scoring["custom"] = {**custom, "position": "Tag", "link": "Softmax"}
        worker = rewardmodel(backend="VLLM", scoring=scoring)
        assert worker.kind == kube.REWARDMODEL
        assert env_of(worker)["MODELWORKER_BACKEND"] == "vllm"
    else:
        with pytest.raises(InvalidSpec, match="set backend to Transformers"):
            rewardmodel(backend="VLLM", scoring=scoring)


def test_the_cache_of_scores_is_for_transformers() -> None:
    cache = {"cache": {"maxTokens": 1}}
    with pytest.raises(InvalidSpec, match=r"spec\.scoring\.cache is for backend Transformers"):
        rewardmodel(backend="VLLM", scoring=cache)
    assert rewardmodel(scoring=cache).spec.scoring is not None
