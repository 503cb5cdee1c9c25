"""The operator's settings for all workers and for the Service of the leader."""

from pathlib import Path

import pydantic
import pytest

from modelworker_operator.config import Config, load_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "operator.md"

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_defaults() -> None:
    config = load_config([])
    assert (config.worker_auth, config.worker_auth_required) == ("token", False)
    assert config.worker_auth_namespaces == config.worker_image_pull_secrets == ()
    assert config.worker_gpu_resource_name == "nvidia.com/gpu"
    assert config.worker_runtime_class == config.publish_service == config.pod_ip == ""
    assert config.trusted_repositories == ()


def test_flags_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKER_OPERATOR_POD_IP", "2001:DB8::0:7")
    monkeypatch.setenv("MODELWORKER_OPERATOR_WORKER_AUTH_NAMESPACES", "search, train")
    # What a chart leaves empty is not set.
    monkeypatch.setenv("MODELWORKER_OPERATOR_WORKER_RUNTIME_CLASS", "")
    monkeypatch.setenv("MODELWORKER_OPERATOR_TRUSTED_REPOSITORIES", "")
    config = load_config(
        [
            "--worker-auth-required",
            "--worker-image-pull-secrets=registry,registry.internal",
            "--publish-service=modelworker-operator",
        ]
    )
    assert config.pod_ip == "2001:db8::7"
    assert config.worker_auth_namespaces == ("search", "train")
    assert config.worker_image_pull_secrets == ("registry", "registry.internal")
    assert (config.worker_runtime_class, config.trusted_repositories) == ("", ())
    assert load_config([f"--trusted-repositories=a/b@{COMMIT}, c/d@{COMMIT}"]).trusted_repositories
    assert load_config(["--worker-auth-namespaces=*"]).worker_auth_namespaces == ("*",)


@pytest.mark.parametrize(
    "field",
    [
        name
        for name in Config.model_fields
        if name.startswith(("worker_", "publish_", "trusted_", "pod_"))
        and name != "worker_bind_host"
    ],
)
def test_each_is_documented(field: str) -> None:
    assert f"--{field.replace('_', '-')}" in DOCUMENT.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--worker-auth=Token"], "'token' or 'none'", id="auth"),
        pytest.param(
            ["--worker-auth=none", "--worker-auth-required"],
            "set worker_auth to token, or leave worker_auth_required out",
            id="required-but-none",
        ),
        pytest.param(
            ["--worker-auth-namespaces=Search"], "'Search' is not the name of a namespace", id="ns"
        ),
        pytest.param(
            ["--worker-image-pull-secrets=a b"], "'a b' is not the name of a Secret", id="secret"
        ),
        pytest.param(["--worker-gpu-resource-name="], "such as nvidia.com/gpu", id="no-gpu"),
        pytest.param(["--worker-gpu-resource-name=gpu"], "such as nvidia.com/gpu", id="plain-gpu"),
        pytest.param(["--worker-runtime-class=a_b"], "the name of a RuntimeClass", id="runtime"),
        pytest.param(["--trusted-repositories=a/b"], "'a/b' is not OWNER/NAME@COMMIT", id="bare"),
        pytest.param(["--trusted-repositories=a/b@main"], "all 40 digits", id="branch"),
        pytest.param(["--trusted-repositories=a/b@0123abc"], "all 40 digits", id="short-commit"),
        pytest.param([f"--trusted-repositories=*@{COMMIT}"], "all 40 digits", id="every-name"),
        pytest.param([f"--trusted-repositories=a/b@{COMMIT}0"], "all 40 digits", id="long-commit"),
        pytest.param(["--publish-service=a"], "publish_service needs pod_ip", id="no-address"),
        pytest.param(
            ["--publish-service=a.b", "--pod-ip=10.0.0.1"], "the name of a Service", id="service"
        ),
        pytest.param(["--pod-ip=10.0.0"], "IPv4 or IPv6 address", id="address"),
        pytest.param(
            ["--publish-service=a", "--pod-ip=10.0.0.1", "--heartbeat-port=0"],
            "set none of them to 0",
            id="unknown-port",
        ),
    ],
)
def test_refused_with_what_to_do(arguments: list[str], said: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        load_config(arguments)
    assert said in str(refused.value)
