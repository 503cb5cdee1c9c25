"""Settings from flags and environment, and what is said of wrong ones."""

from pathlib import Path

import pytest

from modelworker_server.__main__ import main, what_to_load
from modelworker_server.settings import HubSettings, InvalidSettings, load


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_the_operators_environment_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "NAME": "policy",
        "NAMESPACE": "lab",
        "SERVED_NAME": "policy-large",
        "MODEL": "org/policy-1b",
        "SOURCE": "huggingFace",
        "REVISION": "abc",
        "GGUF_FILE": "",
        "DTYPE": "bfloat16",
        "MAX_MODEL_LEN": "4096",
        "MAX_RUNNING": "8",
        "MAX_QUEUED": "32",
        "HOST": "0.0.0.0",
        "PORT": "8000",
        "POD_NAME": "mw-policy-0",
        "POD_UID": "0000",
        "POD_IP": "10.0.0.1",
        "HEARTBEAT_URL": "http://operator.system.svc:8085",
        "HEARTBEAT_INTERVAL_SECONDS": "10",
        "HEARTBEAT_TOKEN_FILE": "/var/run/secrets/token",
        "DRAIN_SECONDS": "60",
        "TERMINATION_LOG": "/dev/termination-log",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"MODELWORKER_{name}", value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = load([])
    assert settings.termination_log == Path("/dev/termination-log")
    assert settings.drain_seconds == 60
    hub = HubSettings()
    config = what_to_load(settings, hub, created=7)
    assert (config.source, config.model, config.revision) == (
        "huggingFace",
        "org/policy-1b",
        "abc",
    )
    assert config.name == "policy-large"
    assert config.aliases == {"policy", "lab/policy", "org/policy-1b"}
    assert (config.gguf_file, config.max_model_len, config.max_running) == (None, 4096, 8)
    assert config.token == "hf_secret"
    assert "hf_secret" not in f"{settings!r} {hub!r} {config!r}"


@pytest.mark.parametrize(
    ("flags", "source", "name", "aliases"),
    [
        pytest.param(["--model", "/models/x"], "local", "/models/x", set(), id="folder"),
        pytest.param(["--model", "./x", "--name", "y"], "local", "y", {"./x"}, id="relative"),
        pytest.param(["--model", "a/b"], "huggingFace", "a/b", set(), id="hub"),
        pytest.param(["--model=a/b", "--source=local"], "local", "a/b", set(), id="said"),
    ],
)
def test_the_source_follows_the_model(
    flags: list[str], source: str, name: str, aliases: set[str]
) -> None:
    config = what_to_load(load(flags), HubSettings(), created=1)
    assert config.source == source
    assert config.name == name
    assert config.aliases == aliases


def test_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKER_PORT", "8001")
    assert load(["--model", "x", "--port", "8002"]).port == 8002


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param([], "--model (MODELWORKER_MODEL): Field required", id="no-model"),
        pytest.param(["--model", "x", "--port", "70000"], "less than or equal to 65535", id="port"),
        pytest.param(["--model", "x", "--max-running", "0"], "got '0'", id="max-running"),
        pytest.param(["--model", "x", "--max-queued", "-1"], "--max-queued", id="max-queued"),
        pytest.param(["--model", "x", "--dtype", "int4"], "'bfloat16'", id="dtype"),
        pytest.param(["--model", "x", "--source", "ftp"], "'local'", id="source"),
        pytest.param(["--model", "x", "--drain-seconds", "nan"], "--drain-seconds", id="nan"),
        pytest.param(["--model", "x", "--heartbeat-url", "op:1"], "--heartbeat-url", id="url"),
        pytest.param(["--model", "x", "--max-model-len", "0"], "--max-model-len", id="length"),
    ],
)
def test_a_wrong_setting_is_one_line(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(flags)
    (line,) = str(caught.value).splitlines()
    assert says in line
    assert main(flags) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_every_problem_has_its_line() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(["--port", "x", "--dtype", "y"])
    assert len(str(caught.value).splitlines()) == 3


def test_an_unknown_flag_or_backend_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--model", "x", "--modle", "y"])
    assert caught.value.code == 2
    assert main(["--model", "x", "--backend", "magic"]) == 2
    assert "there are: transformers" in capsys.readouterr().err


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in ("--model", "--gguf-file", "--drain-seconds", "--heartbeat-token-file"):
        assert option in text
