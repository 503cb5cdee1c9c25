"""A RewardModel's scoring: from the raw object to what the worker is told, and its pods."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_api import kube, rewards
from modelworker_operator import names
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec import parse
from tests.operator_objects import CONFIG, modelworker, raw_rewardmodel, rewardmodel

HUB = {"repo": "a/b", "revision": "abc"}
TEXT = "{question}\n{response}"
CUSTOM: dict[str, Any] = {
    "template": {"text": TEXT},
    "step": {"tag": "ки"},
    "tokens": {"positive": "+", "negative": "-"},
    "position": "Tag",
    "link": "Softmax",
}
RECIPE: dict[str, Any] = {
    "text": TEXT,
    "step_tag": "ки",
    "positive_token": "+",
    "negative_token": "-",
    "position": "Tag",
    "link": "Softmax",
}


def implicit(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "family": "EurusPRM",
        "implicit": {"referenceModel": {"source": source, **more.pop("reference", {})}, **more},
    }


def children(scoring: dict[str, Any], **spec: Any) -> tuple[Manifest, ...]:
    return desired_children(rewardmodel(scoring=scoring, **spec), CONFIG)


def pod_spec(scoring: dict[str, Any], **spec: Any) -> Manifest:
    found: Manifest = children(scoring, **spec)[0]["spec"]["template"]["spec"]
    return found


def env_of(scoring: dict[str, Any], **spec: Any) -> dict[str, Any]:
    (container,) = pod_spec(scoring, **spec)["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def told(scoring: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """What the worker reads, without what is its default."""
    text = env_of(scoring, **spec)["MODELWORKER_SCORING"]
    config = rewards.ScoringConfig.model_validate_json(text)
    return config.model_dump(mode="json", exclude_defaults=True)


@pytest.mark.parametrize(
    ("scoring", "config"),
    [
        pytest.param({}, {}, id="least"),
        pytest.param({"type": "Outcome"}, {"type": "Outcome"}, id="outcome"),
        pytest.param({"family": "SkyworkPRM"}, {"family": "SkyworkPRM"}, id="family"),
        pytest.param({"stepSeparator": "\n"}, {"step_separator": "\n"}, id="separator"),
        pytest.param({"aggregation": "Product"}, {"aggregation": "prod"}, id="aggregation"),
        pytest.param({"overflow": "TruncateLeft"}, {"overflow": "truncate_left"}, id="overflow"),
        pytest.param({"overflow": "Error", "normalize": False}, {}, id="defaults"),
        pytest.param({"batching": {"maxTokens": 9}}, {"max_batch_tokens": 9}, id="batching"),
        pytest.param({"cache": {"maxTokens": 7}}, {"cache_tokens": 7}, id="cache"),
        pytest.param({"normalize": True}, {"normalize": True}, id="normalize"),
        pytest.param(
            {"family": "Custom", "custom": CUSTOM},
            {"family": "Custom", "custom": RECIPE},
            id="custom",
        ),
        pytest.param(
            {
                "custom": {
                    "template": {"chat": {"system": "Judge."}},
                    "step": {"format": "{step}\n"},
                    "label": {"index": 0},
                    "position": "LastTokenOfStep",
                    "link": "Sigmoid",
                }
            },
            {
                "custom": {
                    "system": "Judge.",
                    "step_format": "{step}\n",
                    "label_index": 0,
                    "position": "LastTokenOfStep",
                    "link": "Sigmoid",
                }
            },
            id="custom-chat-label",
        ),
        pytest.param(
            implicit({"pvc": {"claimName": "c", "path": "base"}}, beta=1, form="PerStep"),
            {
                "family": "EurusPRM",
                "beta": 1.0,
                "cumulative": False,
                "reference": {"source": "local", "model": "/reference/base"},
            },
            id="implicit",
        ),
        pytest.param(
            implicit({"hostPath": {"path": "/data/base"}}, reference={"ggufFile": "r.gguf"}),
            {
                "family": "EurusPRM",
                "reference": {"source": "local", "model": "/reference", "gguf_file": "r.gguf"},
            },
            id="reference-on-the-node",
        ),
        pytest.param(
            implicit({"huggingFace": HUB}),
            {
                "family": "EurusPRM",
                "reference": {"source": "huggingFace", "model": "a/b", "revision": "abc"},
            },
            id="reference-of-the-hub",
        ),
    ],
)
def test_the_worker_is_told(scoring: dict[str, Any], config: dict[str, Any]) -> None:
    assert told(scoring) == {"type": "Process", **config}


def test_length_is_that_of_the_input() -> None:
    assert env_of({"maxInputTokens": 512})["MODELWORKER_MAX_MODEL_LEN"] == "512"
    assert "MODELWORKER_MAX_MODEL_LEN" not in env_of({})


@given(st.text(max_size=60))
def test_text_reaches_the_worker_unchanged(text: str) -> None:
    """Kubernetes expands `$(NAME)` and halves `$$` in a variable: none may be left in it."""
    text = f"{{question}}{text}$$x$$ $(MODELWORKER_POD_IP){{response}}"
    raw = env_of({"family": "Custom", "custom": {**CUSTOM, "template": {"text": text}}})
    assert "$" not in raw["MODELWORKER_SCORING"]
    assert json.loads(raw["MODELWORKER_SCORING"])["custom"]["text"] == text


def test_same_scoring_in_another_order_is_the_same_pod() -> None:
    first = {"family": "Custom", "custom": CUSTOM, "cache": {"maxTokens": 7}}
    second = {"cache": {"maxTokens": 7}, "custom": dict(reversed(CUSTOM.items()))}
    assert children(first) == children({**second, "family": "Custom"})


def test_children_of_both_kinds_stand_side_by_side() -> None:
    mine, other = rewardmodel(), modelworker()
    assert (mine.name, mine.namespace) == (other.name, other.namespace)
    for left, right in zip(
        desired_children(mine, CONFIG), desired_children(other, CONFIG), strict=True
    ):
        assert left["metadata"]["name"] == "rwm-smol" != right["metadata"]["name"]
        (owner,) = left["metadata"]["ownerReferences"]
        assert owner["kind"] == "RewardModel"
    assert names.selector_labels(mine) == {
        "modelworker.dev/kind": "RewardModel",
        "modelworker.dev/name": "smol",
    }
    assert names.service_url(mine) == "http://rwm-smol.ns.svc:8000"


def test_a_modelworker_is_told_nothing_of_scoring() -> None:
    spec = desired_children(modelworker(), CONFIG)[0]["spec"]["template"]["spec"]
    assert "MODELWORKER_SCORING" not in {item["name"] for item in spec["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("source", "reference", "mounts", "volumes"),
    [
        pytest.param(
            {"pvc": {"claimName": "c", "path": "a"}},
            {"pvc": {"claimName": "c", "path": "b"}},
            ["/models", "/reference"],
            {
                "model": {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
                "reference": {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            },
            id="one-claim-twice",
        ),
        pytest.param(
            {"hostPath": {"path": "/a"}},
            {"hostPath": {"path": "/b"}},
            ["/models", "/reference"],
            {
                "model": {"hostPath": {"path": "/a", "type": "Directory"}},
                "reference": {"hostPath": {"path": "/b", "type": "Directory"}},
            },
            id="two-folders",
        ),
        pytest.param(
            {"huggingFace": HUB},
            {"huggingFace": {**HUB, "repo": "a/base"}},
            ["/cache"],
            {"cache": {"emptyDir": {}}},
            id="two-repositories",
        ),
        pytest.param(
            {"pvc": {"claimName": "c"}},
            {"huggingFace": HUB},
            ["/cache", "/models"],
            {
                "cache": {"emptyDir": {}},
                "model": {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            },
            id="claim-and-repository",
        ),
        pytest.param(
            {"huggingFace": HUB},
            {"pvc": {"claimName": "c"}},
            ["/cache", "/reference"],
            {
                "cache": {"emptyDir": {}},
                "reference": {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            },
            id="repository-and-claim",
        ),
    ],
)
def test_both_models_are_mounted(
    source: dict[str, Any],
    reference: dict[str, Any],
    mounts: list[str],
    volumes: dict[str, Any],
) -> None:
    spec = pod_spec(implicit(reference), model={"source": source})
    added = [item for item in spec["volumes"] if item["name"] not in ("tmp", "heartbeat-token")]
    assert {one.pop("name"): one for one in added} == volumes
    paths = [item["mountPath"] for item in spec["containers"][0]["volumeMounts"]]
    assert paths[2:] == mounts


@pytest.mark.parametrize("gated", [0, 1])
def test_one_token_serves_both_repositories(gated: int) -> None:
    sources: list[dict[str, Any]] = [{"huggingFace": dict(HUB)}, {"huggingFace": dict(HUB)}]
    sources[gated]["huggingFace"]["tokenSecretRef"] = {"name": "hub"}
    env = env_of(implicit(sources[1]), model={"source": sources[0]})
    assert env["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert "HF_HUB_DISABLE_IMPLICIT_TOKEN" not in env


def two_hubs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"source": {"huggingFace": {**HUB, **first}}},
        "scoring": implicit({"huggingFace": {**HUB, **second}}),
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"scoring": {"type": None}}, "spec.scoring.type is missing; set one of Process", id="no"
        ),
        pytest.param(
            {"scoring": {"family": "X"}}, "spec.scoring.family is 'X'; set one of", id="family"
        ),
        pytest.param(
            {"scoring": {"aggregation": "max"}}, "set one of Min, Last, Product", id="aggregation"
        ),
        pytest.param({"scoring": {"overflow": "Cut"}}, "Error, TruncateLeft", id="overflow"),
        pytest.param({"scoring": {"normalize": "yes"}}, "set true or false", id="normalize"),
        pytest.param(
            {"scoring": {"maxInputTokens": -5}},
            "spec.scoring.maxInputTokens is -5; set a whole number >= 1",
            id="length",
        ),
        pytest.param(
            {"scoring": {"cache": {"maxTokens": -1}}}, "cache.maxTokens is -1", id="cache"
        ),
        pytest.param({"scoring": {"implicit": {}}}, "source has no member", id="no-reference"),
        pytest.param(
            {"scoring": implicit({"pvc": {"claimName": "c"}}, beta=0)},
            "set a number > 0",
            id="beta",
        ),
        pytest.param(
            {"scoring": implicit({"pvc": {"claimName": "c"}}, beta=float("inf"))},
            "spec.scoring: beta: Input should be a finite number; correct it",
            id="infinite",
        ),
        pytest.param(
            {"scoring": implicit({"pvc": {"claimName": "c"}}, form="Sum")},
            "form is 'Sum'; set one of Cumulative, PerStep",
            id="form",
        ),
        pytest.param(
            {"scoring": {"custom": {**CUSTOM, "template": {}}}},
            "custom.template needs exactly one of text and chat",
            id="no-template",
        ),
        pytest.param(
            {"scoring": {"custom": {**CUSTOM, "label": {"index": 1}}}},
            "custom needs exactly one of tokens and label",
            id="tokens-and-label",
        ),
        pytest.param(
            {"scoring": {"custom": {**CUSTOM, "tokens": {"positive": "+"}}}},
            "tokens.negative is missing",
            id="one-token",
        ),
        pytest.param(
            {"scoring": {"custom": {**CUSTOM, "position": "First"}}}, "set one of Tag", id="place"
        ),
        pytest.param(
            two_hubs({"endpoint": "https://a"}, {}), "endpoint is not that of spec.model", id="hubs"
        ),
        pytest.param(
            two_hubs({"tokenSecretRef": {"name": "a"}}, {"tokenSecretRef": {"name": "b"}}),
            "name one Secret with a token that may read both",
            id="tokens",
        ),
    ],
)
def test_refused_with_the_field_and_what_to_do(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse(kube.REWARDMODEL, raw_rewardmodel(**spec))
    assert message in str(refused.value)
