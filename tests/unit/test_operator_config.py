"""Settings from flags and the environment."""

from pathlib import Path

import pydantic
import pytest

from modelworker_operator.config import Config, load_config, own_namespace


def test_defaults() -> None:
    config = load_config([])
    assert config.namespaces == ()
    assert config.worker_image.startswith("modelworker/worker:")
    assert (config.heartbeat_port, config.health_port) == (8085, 8086)
    assert config.leader_elect
    assert config.identity is None


def test_own_namespace_fills_what_depends_on_it() -> None:
    config = load_config(["--namespace", "mw"])
    assert config.lease_namespace == "mw"
    assert config.heartbeat_url == "http://modelworker-operator.mw.svc:8085"


def test_own_namespace_is_read_from_the_pod(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    assert own_namespace(file) == "default"
    file.write_text("mw\n")
    assert own_namespace(file) == "mw"


def test_flag_beats_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKER_OPERATOR_NAMESPACES", "a, b")
    monkeypatch.setenv("MODELWORKER_OPERATOR_HEARTBEAT_URL", "http://h:1")
    assert load_config([]).namespaces == ("a", "b")
    assert load_config([]).heartbeat_url == "http://h:1"
    assert load_config(["--namespaces=c", "--no-leader-elect"]).namespaces == ("c",)
    assert not load_config(["--no-leader-elect"]).leader_elect


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--heartbeat-port=70000"], "heartbeat_port"),
        (["--resync-seconds=0"], "resync_seconds"),
        (["--workers=0"], "workers"),
        (["--log-level=loud"], "log_level"),
    ],
)
def test_out_of_range_is_refused(arguments: list[str], field: str) -> None:
    with pytest.raises((pydantic.ValidationError, SystemExit)) as refused:
        load_config(arguments)
    if isinstance(refused.value, pydantic.ValidationError):
        assert field in str(refused.value)


def test_every_flag_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in Config.model_fields)
    assert all(field.description for field in Config.model_fields.values())


def test_config_is_frozen() -> None:
    config = Config(namespace="x")
    with pytest.raises(pydantic.ValidationError):
        config.namespace = "y"
