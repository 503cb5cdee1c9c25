"""The schemas as files."""

import re
from typing import Any, Final

import pytest
import yaml

from modelworker_api import kube, rewards
from modelworker_operator.spec import RESERVED_ENV, RESERVED_ENV_PREFIX
from modelworker_operator.spec import scoring as words
from tests.operator_schemas import CRDS, FILES, crd, fields, schema, spec_of

KINDS: Final = pytest.mark.parametrize("kind", [pytest.param(k, id=k.kind) for k in kube.KINDS])
SECTIONS: Final = ("spec", "status")

OTHER_WORDS: Final = {
    "spec": {"concurrency.maxRunning"},
    "status": {"model.maxModelLen", "conditions"},
}
"""Fields that both kinds have, with descriptions of their own."""
ONLY_ONE_KIND: Final = re.compile(
    r"(scoring|lora|adapters|model\.maxModelLen"
    r"|vllm\.(logprobsMode|maxLogprobs|toolCallParser|reasoningParser|developmentRoutes))\b.*"
)


def plain(field: dict[str, Any]) -> dict[str, Any]:
    """A field without the fields in it."""
    return {
        key: value
        for key, value in field.items()
        if key not in ("properties", "items", "additionalProperties")
    }


def shared(kind: kube.Kind, section: str) -> dict[str, dict[str, Any]]:
    """The fields that the other kind has too, by path, with what is said of each."""
    found = {}
    for path, field in fields(schema(kind)["properties"][section]):
        if path and not ONLY_ONE_KIND.fullmatch(path):
            found[path] = plain(field)
            if path in OTHER_WORDS[section]:
                found[path].pop("description")
    return found


def test_there_is_a_file_for_each_kind() -> None:
    assert set(CRDS.glob("*.yaml")) == set(FILES.values())


@KINDS
def test_names(kind: kube.Kind) -> None:
    named = crd(kind)
    assert named["metadata"]["name"] == f"{kind.plural}.{kube.GROUP}"
    assert named["spec"]["group"] == kube.GROUP
    assert named["spec"]["names"]["kind"] == kind.kind
    assert named["spec"]["names"]["plural"] == kind.plural
    assert named["spec"]["names"]["shortNames"] == [kind.short]
    assert named["spec"]["versions"][0]["name"] == kube.VERSION


@KINDS
def test_size(kind: kube.Kind) -> None:
    assert len(FILES[kind].read_bytes()) <= 64 * 1024
    # kubectl apply keeps a copy in an annotation, whose limit is 256 KiB.
    assert len(yaml.safe_dump(crd(kind)).encode()) <= 128 * 1024


@KINDS
def test_every_field_is_described(kind: kube.Kind) -> None:
    missing = [
        path
        for path, field in fields(schema(kind))
        if path != "metadata" and not field.get("description")
    ]
    assert missing == []


@KINDS
def test_every_bound_is_set(kind: kube.Kind) -> None:
    """Lists and strings of the spec have a limit: without one, rules on them cost too much."""
    spec = schema(kind)["properties"]["spec"]
    unbounded = [
        path
        for path, field in fields(spec)
        if (field.get("type") == "array" and "maxItems" not in field)
        or (field.get("type") == "string" and "maxLength" not in field and "enum" not in field)
    ]
    assert unbounded == []


@KINDS
def test_states_and_reserved_variables_are_those_of_the_code(kind: kube.Kind) -> None:
    properties = schema(kind)["properties"]
    workers = properties["status"]["properties"]["workers"]
    states = workers["items"]["properties"]["state"]["enum"]
    assert states == [state.value for state in kube.WorkerState]
    rules = str(properties["spec"]["properties"]["env"])
    assert all(name in rules for name in (*RESERVED_ENV, RESERVED_ENV_PREFIX))
    assert kube.MAX_NAME_LENGTH == 50
    assert "size(self.metadata.name) <= 50" in str(schema(kind)["x-kubernetes-validations"])


@pytest.mark.parametrize("section", SECTIONS)
def test_what_both_kinds_have_is_the_same(section: str) -> None:
    mine, other = (shared(kind, section) for kind in kube.KINDS)
    assert mine.keys() == other.keys()
    assert {path: (mine[path], other[path]) for path in mine if mine[path] != other[path]} == {}


def test_rules_are_the_same_but_for_fields_of_one_kind() -> None:
    for found in (schema, spec_of):
        mine, other = (found(kind)["x-kubernetes-validations"] for kind in kube.KINDS)
        own = [rule for rule in mine if "lora" not in rule["rule"]]
        assert own == [rule for rule in other if "scoring" not in rule["rule"]]


def scoring() -> Any:
    return schema(kube.REWARDMODEL)["properties"]["spec"]["properties"]["scoring"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("type", words.TYPES),
        ("family", words.FAMILIES),
        ("aggregation", words.AGGREGATIONS),
        ("overflow", words.OVERFLOWS),
        ("implicit.form", words.FORMS),
        ("custom.position", words.POSITIONS),
        ("custom.link", words.LINKS),
    ],
)
def test_words_are_those_of_the_code(path: str, allowed: Any) -> None:
    assert dict(fields(scoring()))[path]["enum"] == list(allowed)


@pytest.mark.parametrize("enum", [rewards.Aggregation, rewards.Overflow])
def test_every_word_of_the_worker_can_be_asked_for(enum: Any) -> None:
    table: Any = words.AGGREGATIONS if enum is rewards.Aggregation else words.OVERFLOWS
    assert set(table.values()) == set(enum)


def test_defaults_are_those_of_the_worker() -> None:
    worker = rewards.ScoringConfig(type=rewards.ScoreType.PROCESS)
    found = {path: field["default"] for path, field in fields(scoring()) if "default" in field}
    assert words.FAMILIES[found["family"]] is worker.family
    assert words.OVERFLOWS[found["overflow"]] is worker.overflow
    assert found["normalize"] is worker.normalize
    assert found["cache.maxTokens"] == worker.cache_tokens
    assert (found["implicit.form"] == "Cumulative") is worker.cumulative
    step = rewards.CustomRecipe.model_fields["step_format"].default
    assert found["custom.step.format"] == step


def test_every_family_has_a_type() -> None:
    rules = [one["rule"] for one in scoring()["x-kubernetes-validations"][:2]]
    named = [re.findall(r"'(\w+)'", rule)[1:] for rule in rules]
    both = {rewards.Family.AUTO, rewards.Family.CUSTOM}
    assert sorted(named[0] + named[1]) == sorted(set(rewards.Family) - both)
