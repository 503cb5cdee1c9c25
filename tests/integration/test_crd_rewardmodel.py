"""What the API server takes and refuses of RewardModels, and in which words."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelworker_api import kube, rewards
from modelworker_devcluster import DevCluster
from modelworker_devcluster.errors import KubectlFailed
from modelworker_operator.spec import parse
from tests.operator_manifests import ABSENT, dry_run, manifest
from tests.operator_support import install_crds

DOC = Path(__file__).parents[2] / "docs/rewardmodel.md"
README = Path(__file__).parents[2] / "README.md"
HUB = {"repo": "org/model", "revision": "abc123"}
IMPLICIT = {"referenceModel": {"source": {"pvc": {"claimName": "models", "path": "base"}}}}
CUSTOM: dict[str, Any] = {
    "template": {"text": "Question: {question}\n{response}"},
    "step": {"tag": "ки"},
    "tokens": {"positive": " +", "negative": " -"},
    "position": "Tag",
    "link": "Softmax",
}
OUTCOME = {"scoring.type": "Outcome"}
PROCESS = frozenset(
    {
        "MathShepherd", "MathPSA", "RLHFlowPRMMistral", "RLHFlowPRMDeepseek", "SkyworkPRM",
        "QwenMathPRM", "PUREPRM", "ReasonFluxPRM", "EurusPRM", "ImplicitPRM", "ReasonEval",
        "LlemmaPRM", "TRLPRM",
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with the CRDs in it."""
    install_crds(control_plane)
    return control_plane


def rewardmodel(changes: dict[str, Any], *, name: str = "prm") -> str:
    return manifest(kube.REWARDMODEL, changes, name=name)


def family(name: str, **scoring: Any) -> dict[str, Any]:
    """`spec.scoring` replaced, of the type that the family has."""
    type_ = "Process" if name in PROCESS else "Outcome"
    return {"scoring": {"type": type_, "family": name, **scoring}}


def custom(**changes: Any) -> dict[str, Any]:
    """A Custom recipe for each step, with members replaced or taken out."""
    recipe = {key: value for key, value in {**CUSTOM, **changes}.items() if value is not ABSENT}
    return {"scoring": {"type": "Process", "family": "Custom", "custom": recipe}}


def outcome_custom(**changes: Any) -> dict[str, Any]:
    """A Custom recipe for the whole answer."""
    recipe = custom(**{"step": ABSENT, "position": "LastToken", **changes})["scoring"]["custom"]
    return {"scoring": {"type": "Outcome", "family": "Custom", "custom": recipe}}


def implicit(**changes: Any) -> dict[str, Any]:
    return family("EurusPRM", implicit={**IMPLICIT, **changes})


def two_hubs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """A model and its reference from the hub."""
    reference = {"source": {"huggingFace": {**HUB, **second}}}
    return {
        "model": {"source": {"huggingFace": {**HUB, **first}}},
        **implicit(referenceModel=reference),
    }


TAKEN = [
    pytest.param({}, id="least"),
    pytest.param(OUTCOME, id="outcome"),
    pytest.param(
        family(
            "QwenMathPRM",
            stepSeparator="\n\n",
            aggregation="Product",
            maxInputTokens=4096,
            overflow="TruncateLeft",
            batching={"maxTokens": 8192},
            cache={"maxTokens": 65536},
        ),
        id="everything-of-a-family",
    ),
    pytest.param(family("OpenRLHFRM", normalize=True), id="normalized"),
    pytest.param(implicit(), id="implicit"),
    pytest.param(implicit(beta=0.05, form="PerStep"), id="implicit-per-step"),
    pytest.param(implicit(beta=1), id="beta-whole"),
    pytest.param(two_hubs({}, {}), id="two-repositories"),
    pytest.param(
        two_hubs(
            {"tokenSecretRef": {"name": "hub"}, "endpoint": "https://hub.example.com"},
            {
                "tokenSecretRef": {"name": "hub", "key": "token"},
                "endpoint": "https://hub.example.com",
            },
        ),
        id="two-repositories-one-token",
    ),
    pytest.param(two_hubs({}, {"tokenSecretRef": {"name": "hub"}}), id="only-the-second-is-gated"),
    pytest.param(custom(), id="custom"),
    pytest.param(custom(template={"chat": {}}), id="custom-chat"),
    pytest.param(custom(template={"chat": {"system": "Judge."}}), id="custom-chat-system"),
    pytest.param(custom(step={"tag": ":", "format": "{step}\n{tag} +\n"}), id="custom-format"),
    pytest.param(custom(link="Difference"), id="custom-difference"),
    pytest.param(custom(tokens=ABSENT, label={"index": 1}), id="custom-label"),
    pytest.param(custom(position="LastTokenOfStep"), id="custom-end-of-step"),
    pytest.param(
        custom(step=ABSENT, position="LastTokenOfStep", tokens=ABSENT, label={"index": 0}),
        id="custom-without-tag",
    ),
    pytest.param(outcome_custom(), id="custom-outcome"),
    pytest.param(
        outcome_custom(tokens=ABSENT, label={"index": 0}, link="Identity"), id="custom-value"
    ),
]


def examples(page: Path) -> list[dict[str, Any]]:
    """What a page for users shows as YAML."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(textwrap.dedent(block)) for block in blocks]


def test_examples_of_the_reference_are_taken(api: DevCluster) -> None:
    found = examples(DOC)
    assert len(found) == 3
    for example in found:  # whole objects, or parts of a spec
        dry_run(api, rewardmodel(example.get("spec", example)))


def test_objects_of_the_readme_are_taken(api: DevCluster) -> None:
    found = examples(README)
    assert [one["kind"] for one in found] == ["ModelWorker", "RewardModel"]
    for one in found:
        dry_run(api, json.dumps(one))


@pytest.mark.parametrize("changes", TAKEN)
def test_taken_and_understood(api: DevCluster, changes: dict[str, Any]) -> None:
    stored = dry_run(api, rewardmodel(changes))
    scoring = parse(kube.REWARDMODEL, stored).spec.scoring
    assert scoring is not None
    assert scoring.config.type == stored["spec"]["scoring"]["type"]


BOTH = (rewards.Family.AUTO, rewards.Family.CUSTOM)


@pytest.mark.parametrize("name", [one for one in rewards.Family if one not in BOTH])
def test_every_family_has_one_type(api: DevCluster, name: rewards.Family) -> None:
    more = {"implicit": {**IMPLICIT, "beta": 0.05}} if name in ("EurusPRM", "ImplicitPRM") else {}
    right, wrong = ("Process", "Outcome") if name in PROCESS else ("Outcome", "Process")
    dry_run(api, rewardmodel({"scoring": {"type": right, "family": name.value, **more}}))
    with pytest.raises(KubectlFailed, match=f"must be {right} for this family"):
        dry_run(api, rewardmodel({"scoring": {"type": wrong, "family": name.value, **more}}))


def test_defaults(api: DevCluster) -> None:
    stored = dry_run(api, rewardmodel({"scoring.cache": {}, **custom()}))["spec"]
    assert stored["scoring"] == {
        "type": "Process",
        "family": "Custom",
        "overflow": "Error",
        "normalize": False,
        "cache": {"maxTokens": 0},
        "custom": {**CUSTOM, "step": {"tag": "ки", "format": "{step}{tag}"}},
    }
    plain = dry_run(api, manifest(kube.MODELWORKER, {}))["spec"]
    assert {key: value for key, value in stored.items() if key != "scoring"} == plain
    asked = dry_run(api, rewardmodel(implicit()))["spec"]["scoring"]["implicit"]
    assert asked == {**IMPLICIT, "form": "Cumulative"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"scoring": ABSENT}, "spec.scoring: Required value", id="no-scoring"),
        pytest.param({"scoring": {}}, "spec.scoring.type: Required value", id="no-type"),
        pytest.param({"scoring.type": "Pairwise"}, '"Process", "Outcome"', id="type"),
        pytest.param({"scoring.family": "Shepherd"}, 'supported values: "Auto"', id="family"),
        pytest.param(
            {"model.maxModelLen": 10}, 'unknown field "spec.model.maxModelLen"', id="other-limit"
        ),
        pytest.param({"scoring.stepSeparator": ""}, "at least 1 chars long", id="separator-empty"),
        pytest.param(
            {**OUTCOME, "scoring.stepSeparator": "\n"}, "does not split", id="separator-of-outcome"
        ),
        pytest.param(
            {**OUTCOME, "scoring.aggregation": "Min"}, "one score", id="aggregation-of-outcome"
        ),
        pytest.param({"scoring.aggregation": "Max"}, 'values: "Min", "Last"', id="aggregation"),
        pytest.param(
            {"scoring.maxInputTokens": 255}, "greater than or equal to 256", id="few-tokens"
        ),
        pytest.param({"scoring.overflow": "Truncate"}, '"Error", "TruncateLeft"', id="overflow"),
        pytest.param({"scoring.batching.maxTokens": 0}, "greater than or equal to 1", id="batch-0"),
        pytest.param({"scoring.cache.maxTokens": -1}, "greater than or equal to 0", id="cache--1"),
        pytest.param(
            family("MathShepherd", normalize=True),
            "is for family OpenRLHFRM",
            id="normalize",
        ),
        pytest.param({"scoring.family": "Custom"}, "must be set for family Custom", id="custom"),
        pytest.param(
            {**custom(), "scoring.family": "TRLPRM"},
            "set family to Custom, or remove custom",
            id="custom-of-a-family",
        ),
        pytest.param(custom(template=ABSENT), "custom.template: Required", id="no-template"),
        pytest.param(custom(template={}), "set exactly one of text and chat", id="template-empty"),
        pytest.param(
            custom(template={"text": "{question}{response}", "chat": {}}),
            "set exactly one of text and chat",
            id="two-templates",
        ),
        pytest.param(
            custom(template={"text": "Q {question}"}),
            "must contain {question} and {response}",
            id="no-response",
        ),
        pytest.param(
            custom(template={"text": "{question}{response}{response}"}),
            "each once",
            id="response-twice",
        ),
        pytest.param(
            custom(template={"text": "{question}{response}" + "x" * 9000}),
            "may not be more than 8192",
            id="template-long",
        ),
        pytest.param(
            custom(label={"index": 0}), "set exactly one of tokens", id="tokens-and-label"
        ),
        pytest.param(custom(tokens=ABSENT), "set exactly one of tokens", id="nothing-to-read"),
        pytest.param(custom(tokens={"positive": "+"}), "negative: Required", id="one-token"),
        pytest.param(
            custom(tokens={"positive": "+", "negative": "+"}), "different tokens", id="same-token"
        ),
        pytest.param(custom(tokens=ABSENT, label={}), "label.index: Required", id="no-index"),
        pytest.param(custom(step=ABSENT), "are told by its tag", id="no-step"),
        pytest.param(custom(step={}), "step.tag: Required", id="no-tag"),
        pytest.param(custom(step={"tag": ""}), "at least 1 chars long", id="tag-empty"),
        *(
            pytest.param(
                custom(step={"tag": ":", "format": text}), "and after it {tag}, each once", id=text
            )
            for text in ("{step}", "{tag}", "{tag}{step}", "{step}{tag}{tag}", "{step}{step}{tag}")
        ),
        pytest.param(custom(position="LastToken"), "must be Tag, BeforeTag", id="process-at-end"),
        pytest.param(outcome_custom(position="Tag", step={"tag": "ки"}), "LastToken", id="outcome"),
        pytest.param(outcome_custom(step={"tag": "ки"}), "does not split", id="outcome-steps"),
        pytest.param(custom(link="Identity"), "must be Softmax or Difference", id="link-of-tokens"),
        pytest.param(
            custom(tokens=ABSENT, label={"index": 0}, link="Difference"),
            "must be Softmax, Sigmoid or Identity",
            id="link-of-a-label",
        ),
        pytest.param(custom(link=ABSENT), "custom.link: Required", id="no-link"),
        pytest.param(family("EurusPRM"), "name the referenceModel", id="no-reference"),
        pytest.param(
            family("EurusPRM", implicit={}), "implicit.referenceModel: Required", id="no-second"
        ),
        pytest.param(
            family("TRLPRM", implicit=IMPLICIT), "or remove implicit", id="reference-of-others"
        ),
        pytest.param(family("ImplicitPRM", implicit=IMPLICIT), "must have beta", id="no-beta"),
        pytest.param(
            family("EurusPRM", implicit=IMPLICIT, cache={"maxTokens": 9}),
            "has no use for implicit rewards",
            id="cache-of-implicit",
        ),
        pytest.param(implicit(beta=0), "should be greater than 0", id="beta-0"),
        pytest.param(implicit(beta="small"), "must be of type number", id="beta-text"),
        pytest.param(implicit(form="Sum"), '"Cumulative", "PerStep"', id="form"),
        pytest.param(
            implicit(referenceModel={"source": {}}), "set exactly one of huggingFace", id="origin"
        ),
        pytest.param(
            two_hubs({"endpoint": "https://a.example"}, {}), "must have the endpoint", id="hubs"
        ),
        pytest.param(
            two_hubs({"tokenSecretRef": {"name": "a"}}, {"tokenSecretRef": {"name": "b"}}),
            "must have the tokenSecretRef",
            id="two-tokens",
        ),
        pytest.param({"env": [{"name": "HF_TOKEN"}]}, "tokenSecretRef instead", id="env"),
    ],
)
def test_refused(api: DevCluster, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KubectlFailed) as refused:
        dry_run(api, rewardmodel(changes))
    assert message in str(refused.value)


@pytest.fixture
def stored(api: DevCluster, control_plane_namespace: str) -> str:
    """The namespace of a stored object called prm."""
    api.kubectl("create", "-n", control_plane_namespace, "-f", "-", stdin=rewardmodel({}))
    return control_plane_namespace


def test_type_cannot_be_changed_but_the_rest_can(api: DevCluster, stored: str) -> None:
    def patch(**scoring: Any) -> None:
        body = json.dumps({"spec": {"scoring": scoring}})
        api.kubectl("patch", "rwm", "prm", "-n", stored, "--type=merge", "-p", body)

    patch(family="SkyworkPRM", aggregation="Last")
    with pytest.raises(KubectlFailed, match="make another RewardModel"):
        patch(type="Outcome", family="Auto", aggregation=None)


def test_columns_short_name_and_scale(api: DevCluster, stored: str) -> None:
    header, row = api.kubectl("get", "rwm", "-n", stored).splitlines()
    assert header.split() == [
        "NAME", "MODEL", "TYPE", "FAMILY", "BACKEND", "GPUS", "READY", "DESIRED", "REASON", "URL",
        "AGE",
    ]  # fmt: skip
    assert row.split()[:2] == ["prm", "Process"]
    assert "Auto" in api.kubectl("get", "rewardmodel", "-n", stored, "-o=wide")
    api.kubectl("scale", "rwm", "prm", "--replicas=3", "-n", stored)
    assert (
        "prm" in api.kubectl("get", "modelworker", "-A", "-o=name")
        or api.kubectl("get", "rwm", "prm", "-n", stored, "-o=jsonpath={.spec.replicas}") == "3"
    )


def test_explain_shows_descriptions(api: DevCluster) -> None:
    assert "The recipe that the checkpoint" in api.kubectl("explain", "rwm.spec.scoring.family")
