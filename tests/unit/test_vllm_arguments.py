"""The flags that a worker renders, through vLLM's own parser."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm")

from modelworker_api.engine import RESERVED_ARGS, VLLMConfig
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.vllm.arguments import pooling_flags, serving_flags
from modelworker_server.workers.vllm.engine import parse

PLAIN = ModelConfig(source="local", model="/models/m", name="policy", created=1)


def parsed(config: ModelConfig) -> dict[str, Any]:
    return vars(parse(serving_flags(config)))


@pytest.mark.parametrize(
    ("changes", "engine", "expected"),
    [
        pytest.param({}, {}, {"model": "/models/m", "served_model_name": ["policy"]}, id="plain"),
        pytest.param(
            {"aliases": frozenset({"lab/policy", "a"})},
            {},
            {"served_model_name": ["policy", "a", "lab/policy"]},
            id="aliases",
        ),
        pytest.param({"dtype": "bfloat16"}, {}, {"dtype": "bfloat16"}, id="dtype"),
        pytest.param({"max_model_len": 77}, {}, {"max_model_len": 77}, id="length"),
        pytest.param({"max_running": 3}, {}, {"max_num_seqs": 3}, id="running"),
        pytest.param(
            {"source": "huggingFace", "model": "org/m", "revision": "main"},
            {},
            {"revision": "main", "code_revision": "main", "trust_remote_code": False},
            id="revision-of-the-hub",
        ),
        pytest.param({"trust_remote_code": True}, {}, {"trust_remote_code": True}, id="code"),
        pytest.param({"revision": "main"}, {}, {"revision": None}, id="no-revision-of-a-folder"),
        pytest.param(
            {},
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 3},
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 3},
            id="parallel",
        ),
        pytest.param(
            {}, {"gpu_memory_utilization": 0.5}, {"gpu_memory_utilization": 0.5}, id="gpu-memory"
        ),
        pytest.param(
            {}, {"kv_cache_memory_bytes": 2**29}, {"kv_cache_memory_bytes": 2**29}, id="kv-cache"
        ),
        pytest.param({}, {}, {"enable_prefix_caching": True}, id="prefixes"),
        pytest.param(
            {},
            {"enable_prefix_caching": False},
            {"enable_prefix_caching": False},
            id="no-prefixes",
        ),
        pytest.param({}, {"quantization": "fp8"}, {"quantization": "fp8"}, id="quantization"),
        pytest.param({}, {"enforce_eager": True}, {"enforce_eager": True}, id="eager"),
        pytest.param(
            {},
            {"logprobs_mode": "processed_logprobs", "max_logprobs": -1},
            {"logprobs_mode": "processed_logprobs", "max_logprobs": -1},
            id="logprobs",
        ),
        pytest.param(
            {},
            {"tool_call_parser": "hermes"},
            {"tool_call_parser": "hermes", "enable_auto_tool_choice": True},
            id="tools",
        ),
        pytest.param({}, {"reasoning_parser": "qwen3"}, {"reasoning_parser": "qwen3"}, id="reason"),
        pytest.param(
            {},
            {"max_lora_rank": 8, "max_loras": 2},
            {"enable_lora": True, "max_lora_rank": 8, "max_loras": 2},
            id="adapters",
        ),
        pytest.param(
            {},
            {"extra_args": ("--block-size", "32")},
            {"block_size": 32},
            id="extra-arguments",
        ),
        pytest.param(
            {},
            {},
            {
                "enable_scale_out": True,
                "enable_tokenizer_info_endpoint": True,
                "disable_fastapi_docs": True,
                "generation_config": "vllm",
                "trust_remote_code": False,
                "allowed_media_domains": ["nowhere.invalid"],
            },
            id="always",
        ),
        pytest.param(
            {},
            {"extra_args": ("--allowed-media-domains", "images.example")},
            {"allowed_media_domains": ["images.example"]},
            id="media",
        ),
    ],
)
def test_vllm_understands_the_flags(
    changes: dict[str, Any], engine: dict[str, Any], expected: dict[str, Any]
) -> None:
    seen = parsed(replace(PLAIN, **changes, vllm=VLLMConfig(**engine)))
    assert {name: seen[name] for name in expected} == expected


def _chosen(field: str) -> st.SearchStrategy[Any]:
    """Values of a field of `VLLMConfig` that a resource may have."""
    return {
        "tensor_parallel_size": st.integers(1, 64),
        "pipeline_parallel_size": st.integers(1, 64),
        "gpu_memory_utilization": st.none() | st.floats(0.01, 1),
        "kv_cache_memory_bytes": st.none() | st.integers(1, 2**40),
        "quantization": st.none() | st.sampled_from(["fp8", "awq", "gptq"]),
        "logprobs_mode": st.sampled_from(
            get_args(VLLMConfig.model_fields["logprobs_mode"].annotation)
        ),
        "max_logprobs": st.integers(-1, 10**6),
        "tool_call_parser": st.none() | st.sampled_from(["hermes", "llama3_json"]),
        "reasoning_parser": st.none() | st.sampled_from(["qwen3", "deepseek_r1"]),
        "max_lora_rank": st.none() | st.sampled_from([1, 8, 16, 320, 512]),
        "max_loras": st.integers(1, 64),
        "enable_prefix_caching": st.booleans(),
        "enforce_eager": st.booleans(),
        "development_routes": st.booleans(),
        "extra_args": st.sampled_from([(), ("--seed", "3"), ("--seed=3",)]),
    }[field]


@settings(max_examples=60, deadline=None)
@given(
    engine=st.builds(VLLMConfig, **{field: _chosen(field) for field in VLLMConfig.model_fields}),
    served=st.tuples(st.sampled_from(["policy", "a/b"]), st.frozensets(st.sampled_from("xyz"))),
    length=st.none() | st.integers(1, 10**6),
)
def test_every_configuration_is_understood(
    engine: VLLMConfig, served: tuple[str, frozenset[str]], length: int | None
) -> None:
    name, aliases = served
    config = replace(PLAIN, name=name, aliases=aliases, max_model_len=length, vllm=engine)
    seen = parsed(config)
    assert seen["served_model_name"][0] == name
    assert seen["tensor_parallel_size"] == engine.tensor_parallel_size
    assert seen["max_logprobs"] == engine.max_logprobs
    assert seen["enable_prefix_caching"] == engine.enable_prefix_caching
    if engine.gpu_memory_utilization is not None:
        assert seen["gpu_memory_utilization"] == engine.gpu_memory_utilization
    assert bool(seen["enable_lora"]) == (engine.max_lora_rank is not None)
    assert vars(parse(pooling_flags(config, ["--convert", "embed"])))["runner"] == "pooling"


def test_every_reserved_flag_is_one_of_vllm() -> None:
    # A name that vLLM does not know would protect nothing.
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    known = {
        flag.lstrip("-").replace("_", "-") for action in parser._actions
        for flag in action.option_strings
    }  # fmt: skip
    other_commands = {"config", "headless", "api-server-count", "grpc"}
    assert RESERVED_ARGS - known - other_commands == set()


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(("--no-such-flag",), id="unknown"),
        pytest.param(("--seed", "many"), id="wrong-value"),
        pytest.param(("--block-siz", "32"), id="abbreviated"),
    ],
)
def test_flags_that_vllm_does_not_take_are_a_failed_load(extra: tuple[str, ...]) -> None:
    with pytest.raises(LoadError, match="vLLM does not take these arguments"):
        parsed(replace(PLAIN, vllm=VLLMConfig(extra_args=extra)))
