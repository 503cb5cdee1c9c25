"""What the operator renders for vLLM, read by the worker and taken by vLLM's own parser."""

from argparse import Namespace
from typing import Any

import pytest

from modelworker_devcluster.kubelet.environment import expand
from modelworker_operator.desired import desired_children
from modelworker_server.__main__ import what_to_load
from modelworker_server.credentials import HubSettings
from modelworker_server.settings import load
from modelworker_server.workers.vllm.arguments import serving_flags
from modelworker_server.workers.vllm.engine import parse
from tests.operator_objects import CONFIG, modelworker

HUB = {"repo": "a/b", "revision": "abc"}


def parsed(monkeypatch: pytest.MonkeyPatch, **spec: Any) -> Namespace:
    """The arguments of the engine in a pod of such a spec."""
    template = desired_children(modelworker(backend="VLLM", **spec), CONFIG)[0]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    values: dict[str, str] = {}
    for item in container["env"]:
        if "value" in item:  # as a container runtime expands them, in order
            values[item["name"]] = expand(item["value"], values)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load([])
    assert settings.backend == "vllm"
    return parse(serving_flags(what_to_load(settings, HubSettings(), created=0)))


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        pytest.param(
            {},
            {
                "model": "/models/smollm2",
                "served_model_name": ["smol", "ns/smol"],
                "dtype": "auto",
                "max_num_seqs": 32,
                "tensor_parallel_size": 1,
                "pipeline_parallel_size": 1,
                "enable_prefix_caching": True,
                "quantization": None,
                "logprobs_mode": "raw_logprobs",
                "max_logprobs": 20,
                "enforce_eager": False,
                "enable_lora": None,
            },
            id="least",
        ),
        pytest.param(
            {"model": {"source": {"huggingFace": HUB}, "dtype": "float16", "maxModelLen": 512}},
            {"dtype": "float16", "max_model_len": 512},
            id="model",
        ),
        pytest.param({"concurrency": {"maxRunning": 7}}, {"max_num_seqs": 7}, id="concurrency"),
        pytest.param(
            {"gpu": {"count": 8}, "parallelism": {"tensor": 4, "pipeline": 2}},
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
            id="parallelism",
        ),
        pytest.param(
            {"vllm": {"gpuMemoryUtilization": 0.5, "kvCacheMemory": "512Mi"}},
            {"gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 2**29},
            id="memory",
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
            {"vllm": {"toolCallParser": "hermes"}},
            {"tool_call_parser": "hermes", "enable_auto_tool_choice": True},
            id="tools",
        ),
        pytest.param(
            {"vllm": {"reasoningParser": "deepseek_r1"}},
            {"reasoning_parser": "deepseek_r1"},
            id="reasoning",
        ),
        pytest.param(
            {"lora": {"maxRank": 64, "maxLoaded": 2}},
            {"enable_lora": True, "max_lora_rank": 64, "max_loras": 2},
            id="lora",
        ),
        *(
            pytest.param({"lora": {"maxRank": rank}}, {"max_lora_rank": rank}, id=f"rank-{rank}")
            for rank in (8, 16, 32, 128, 256, 320, 512)
        ),
        pytest.param(
            {"vllm": {"extraArgs": ["--seed", "7", "--block_size=16", "--no-async-scheduling"]}},
            {"seed": 7, "block_size": 16, "async_scheduling": False},
            id="extra-arguments",
        ),
        pytest.param(
            {"vllm": {"developmentRoutes": {"tokenSecretRef": {"name": "s"}}}},
            {"model": "/models/smollm2"},
            id="development-routes",
        ),
    ],
)
def test_vllm_takes_what_is_rendered(
    monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], arguments: dict[str, Any]
) -> None:
    found = vars(parsed(monkeypatch, **spec))
    assert {name: found[name] for name in arguments} == arguments
