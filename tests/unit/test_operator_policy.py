"""What the operator's settings make of an object: defaults, callers, and what is forbidden."""

from typing import Any, Final

import pytest

from modelworker_api import kube
from modelworker_operator.config import Config
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.policy import callers, check_allowed, runs_model_code, takes_tokens
from modelworker_operator.spec import WorkerObject
from tests.operator_objects import condition, modelworker, rewardmodel, status_of, unscheduled

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
LISTED: Final = f"org/model@{COMMIT}"
HUB: Final = {"repo": "org/model", "revision": COMMIT}
OTHER: Final = {"repo": "org/other", "revision": COMMIT}


def config(**settings: Any) -> Config:
    return Config(namespace="system", **settings)


def pod_of(worker: WorkerObject, settings: Config) -> Manifest:
    template: Manifest = desired_children(worker, settings)[0]["spec"]["template"]["spec"]
    return template


def env_of(worker: WorkerObject, settings: Config) -> dict[str, Any]:
    return {
        one["name"]: one.get("value") for one in pod_of(worker, settings)["containers"][0]["env"]
    }


def of_hub(hub: dict[str, Any], **spec: Any) -> WorkerObject:
    return modelworker(model={"source": {"huggingFace": hub}}, **spec)


def implicit(reference: dict[str, Any]) -> WorkerObject:
    return rewardmodel(
        model={"source": {"huggingFace": HUB}},
        scoring={"family": "EurusPRM", "implicit": {"referenceModel": {"source": reference}}},
    )


@pytest.mark.parametrize(
    ("mode", "default", "told"),
    [
        pytest.param(None, "token", "token", id="default"),
        pytest.param(None, "none", "none", id="default-none"),
        pytest.param("Token", "none", "token", id="token"),
        pytest.param("None", "token", "none", id="none"),
    ],
)
def test_auth(mode: str | None, default: str, told: str) -> None:
    worker, settings = modelworker(auth={"mode": mode}), config(worker_auth=default)
    assert env_of(worker, settings)["MODELWORKER_AUTH"] == told
    assert takes_tokens(worker.spec, settings) is (told == "token")


@pytest.mark.parametrize("mode", [None, "Token"])
def test_auth_can_be_required(mode: str | None) -> None:
    check_allowed(modelworker(auth={"mode": "None"}).spec, config())
    check_allowed(modelworker(auth={"mode": mode}).spec, config(worker_auth_required=True))
    with pytest.raises(InvalidSpec, match=r"spec\.auth\.mode is None.*set it to Token, or remove"):
        check_allowed(modelworker(auth={"mode": "None"}).spec, config(worker_auth_required=True))


@pytest.mark.parametrize(
    ("setting", "namespaces"),
    [
        pytest.param("", ("ns",), id="own-alone"),
        pytest.param("search,ns", ("ns", "search"), id="others-too"),
        pytest.param("search,*", ("*",), id="all"),
    ],
)
def test_callers(setting: str, namespaces: tuple[str, ...]) -> None:
    assert callers("ns", config(worker_auth_namespaces=setting)) == namespaces


@pytest.mark.parametrize(
    ("spec", "settings", "secrets"),
    [
        pytest.param({}, {}, None, id="none"),
        pytest.param({}, {"worker_image_pull_secrets": "a,b"}, ["a", "b"], id="setting"),
        pytest.param(
            {"imagePullSecrets": [{"name": "mine"}]},
            {"worker_image_pull_secrets": "a,b"},
            ["mine"],
            id="own",
        ),
    ],
)
def test_pull_secrets(
    spec: dict[str, Any], settings: dict[str, Any], secrets: list[str] | None
) -> None:
    found = pod_of(modelworker(**spec), config(**settings)).get("imagePullSecrets")
    assert found == (None if secrets is None else [{"name": name} for name in secrets])


@pytest.mark.parametrize(
    ("own", "setting", "name"),
    [
        pytest.param(None, None, "nvidia.com/gpu", id="default"),
        pytest.param(None, "amd.com/gpu", "amd.com/gpu", id="setting"),
        pytest.param("nvidia.com/mig-1g.10gb", "amd.com/gpu", "nvidia.com/mig-1g.10gb", id="own"),
    ],
)
def test_gpu_resource_name(own: str | None, setting: str | None, name: str) -> None:
    worker = modelworker(gpu={"count": 1, **({"resourceName": own} if own else {})})
    settings = config(**({"worker_gpu_resource_name": setting} if setting else {}))
    (container,) = pod_of(worker, settings)["containers"]
    assert container["resources"] == {"limits": {name: "1"}}


@pytest.mark.parametrize(
    ("own", "missing", "reason"),
    [
        pytest.param(None, "amd.com/gpu", kube.Reason.INSUFFICIENT_GPU, id="setting"),
        pytest.param("amd.com/gpu", "amd.com/gpu", kube.Reason.INSUFFICIENT_GPU, id="own"),
        pytest.param("nvidia.com/gpu", "amd.com/gpu", kube.Reason.UNSCHEDULABLE, id="another"),
        pytest.param(None, "memory", kube.Reason.UNSCHEDULABLE, id="memory"),
    ],
)
def test_missing_gpus_are_known_by_either_name(
    own: str | None, missing: str, reason: kube.Reason
) -> None:
    worker = modelworker(gpu={"count": 1, "resourceName": own})
    said = f"0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient {missing}."
    ready = condition(status_of(worker, unscheduled(said)), kube.ConditionType.READY)
    assert ready["reason"] == reason
    assert ("add nodes with amd.com/gpu; " in ready["message"]) is ("Insufficient" in reason)


@pytest.mark.parametrize(
    ("own", "setting", "name"), [(None, "", None), (None, "nvidia", "nvidia"), ("x", "nvidia", "x")]
)
def test_runtime_class(own: str | None, setting: str, name: str | None) -> None:
    worker = modelworker(scheduling={"runtimeClassName": own} if own else {})
    found = pod_of(worker, config(worker_runtime_class=setting)).get("runtimeClassName")
    assert found == name


@pytest.mark.parametrize(
    ("worker", "listed", "runs"),
    [
        pytest.param(of_hub(HUB), (), False, id="nothing-listed"),
        pytest.param(of_hub(HUB), (LISTED,), True, id="listed"),
        pytest.param(of_hub(OTHER), (LISTED,), False, id="other-repository"),
        pytest.param(of_hub({**HUB, "revision": "f" * 40}), (LISTED,), False, id="other-commit"),
        pytest.param(of_hub({**HUB, "revision": "main"}), (LISTED,), False, id="branch"),
        pytest.param(of_hub({**HUB, "endpoint": "https://m"}), (LISTED,), False, id="mirror"),
        pytest.param(modelworker(), (LISTED,), False, id="volume"),
        pytest.param(implicit({"huggingFace": HUB}), (LISTED,), True, id="reference-listed"),
        pytest.param(implicit({"huggingFace": OTHER}), (LISTED,), False, id="reference-not-listed"),
        pytest.param(
            implicit({"pvc": {"claimName": "c"}}), (LISTED,), False, id="reference-of-a-volume"
        ),
    ],
)
def test_model_code_is_run_from_listed_commits_alone(
    worker: WorkerObject, listed: tuple[str, ...], runs: bool
) -> None:
    settings = config(trusted_repositories=listed)
    assert runs_model_code(worker.spec, settings) is runs
    told = env_of(worker, settings).get("MODELWORKER_TRUST_REMOTE_CODE")
    assert told == ("true" if runs else None)
