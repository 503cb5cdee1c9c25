"""The operator's settings of FastChat's controller."""

import pydantic
import pytest

from modelworker_operator.config import load_config


def test_it_is_off_and_closed_by_default() -> None:
    config = load_config([])
    assert config.controller_port is None
    assert config.controller_host == "127.0.0.1"
    assert config.controller_namespaces == config.controller_external_hosts == ()
    assert not config.controller_allow_external


def test_flags_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKER_OPERATOR_CONTROLLER_PORT", "21001")
    monkeypatch.setenv("MODELWORKER_OPERATOR_CONTROLLER_NAMESPACES", "a, b")
    config = load_config(
        ["--controller-allow-external", "--controller-external-hosts=gpu-1, 10.1.0.0/16"]
    )
    assert config.controller_port == 21001
    assert config.controller_namespaces == ("a", "b")
    assert config.controller_external_hosts == ("gpu-1", "10.1.0.0/16")


def test_a_star_is_every_namespace() -> None:
    assert load_config(["--controller-namespaces=*"]).controller_namespaces == ()
    assert load_config(["--namespaces=a", "--controller-namespaces=*"]).namespaces == ("a",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--controller-port=70000"], "controller_port", id="port"),
        pytest.param(
            ["--namespaces=a,b", "--controller-namespaces=b,c"],
            "controller_namespaces has c",
            id="namespace-that-is-not-served",
        ),
        pytest.param(["--controller-allow-external"], "external_hosts", id="from-nowhere"),
        pytest.param(["--controller-external-hosts=gpu"], "allow_external", id="not-allowed"),
        pytest.param(
            ["--controller-allow-external", "--controller-external-hosts=10.1.0.1/16"],
            "10.1.0.1/16",
            id="no-network",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=said):
        load_config(arguments)
