"""What the schemas say of backend VLLM, against the code."""

import re
from typing import Any, Final

import pytest

from modelworker_api import engine, kube, rewards
from modelworker_api.adapters import AdapterState
from modelworker_operator.spec import engine as words
from tests.operator_schemas import fields, schema, spec_of

KINDS: Final = pytest.mark.parametrize("kind", [pytest.param(k, id=k.kind) for k in kube.KINDS])
SPEC: Final = dict(fields(spec_of(kube.MODELWORKER)))


def default(path: str) -> Any:
    return SPEC[path]["default"]


@KINDS
def test_reserved_arguments_are_those_of_the_worker(kind: kube.Kind) -> None:
    item = dict(fields(spec_of(kind)))["vllm.extraArgs[]"]
    (rule,) = item["x-kubernetes-validations"]
    (listed,) = re.findall(r"!\[([^\]]*)\]\s*\.exists", rule["rule"])
    named = re.findall(r"'([^']+)'", listed)
    assert sorted(named) == sorted(engine.RESERVED_ARGS)


def test_families_are_those_of_the_worker() -> None:
    rules = spec_of(kube.REWARDMODEL)["x-kubernetes-validations"]
    (rule,) = [one["rule"] for one in rules if "self.scoring.family in" in one["rule"]]
    (listed,) = re.findall(r"family in \[([^\]]*)\]", rule)
    assert sorted(re.findall(r"'(\w+)'", listed)) == sorted(rewards.VLLM_FAMILIES)


@pytest.mark.parametrize(
    ("path", "allowed"), [("backend", words.BACKENDS), ("vllm.logprobsMode", words.LOGPROBS)]
)
def test_words_are_those_of_the_code(path: str, allowed: Any) -> None:
    assert SPEC[path]["enum"] == list(allowed)
    assert default(path) == next(iter(allowed))


def test_states_are_those_of_the_wire() -> None:
    status = dict(fields(schema(kube.MODELWORKER)["properties"]["status"]))
    assert status["adapters[].state"]["enum"] == list(AdapterState)


def test_defaults_are_those_of_the_worker() -> None:
    worker = engine.VLLMConfig()
    assert default("parallelism.tensor") == worker.tensor_parallel_size
    assert default("parallelism.pipeline") == worker.pipeline_parallel_size
    assert default("vllm.enablePrefixCaching") == worker.enable_prefix_caching
    assert default("vllm.enforceEager") == worker.enforce_eager
    assert words.LOGPROBS[default("vllm.logprobsMode")] == worker.logprobs_mode
    assert default("vllm.maxLogprobs") == worker.max_logprobs
    assert default("lora.maxLoaded") == worker.max_loras


@KINDS
def test_every_field_of_vllm_alone_has_its_rule(kind: kube.Kind) -> None:
    found = spec_of(kind)
    rules = [one["rule"] for one in found["x-kubernetes-validations"]]
    given = [field for field in words.FIELDS if field in found["properties"]]
    assert [f"self.backend == 'VLLM' || !has(self.{field})" in rules for field in given] == [
        True for _ in given
    ]
    assert (kind == kube.MODELWORKER) == ("lora" in given)
