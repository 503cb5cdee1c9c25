"""Settings from flags and environment, and what is said of wrong ones."""

import os
import tempfile
from pathlib import Path

import pytest

from modelworker_api.rewards import Aggregation, Family, ScoreType
from modelworker_server.__main__ import main, what_to_load
from modelworker_server.credentials import HubSettings
from modelworker_server.settings import InvalidSettings, load, tune_libraries

CODE = ["--trust-remote-code", "true"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
        "REVISION": COMMIT,
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
        "AUTH": "token",
        "TRUST_REMOTE_CODE": "true",
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
        COMMIT,
    )
    assert config.name == "policy-large"
    assert config.aliases == {"policy", "lab/policy", "org/policy-1b"}
    assert (config.gguf_file, config.max_model_len, config.max_running) == (None, 4096, 8)
    assert (settings.auth, config.trust_remote_code) == ("token", True)
    assert config.token == "hf_secret"
    assert "hf_secret" not in f"{settings!r} {hub!r} {config!r}"


@pytest.mark.parametrize(
    ("flags", "source", "name", "aliases"),
    [
        pytest.param(["--model", "/models/x"], "local", "/models/x", set(), id="folder"),
        pytest.param(["--model", "./x", "--name", "y"], "local", "y", set(), id="relative"),
        pytest.param(["--model=a/b", "--name=y"], "huggingFace", "y", {"a/b"}, id="hub-named"),
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
        pytest.param(["--model", "x", "--auth", "Token"], "'token' or 'none'", id="auth"),
        pytest.param(["--model", "x", "--auth", "token"], "--heartbeat-url", id="auth-of-nobody"),
        pytest.param(["--model", "a/b", *CODE], "40 hex digits of a commit", id="code-unnamed"),
        pytest.param(["--model", "a/b", *CODE, "--revision", "main"], "40 hex", id="code-branch"),
        pytest.param(
            ["--model", "a/b", *CODE, "--revision", COMMIT[:-1]], "40 hex", id="code-short"
        ),
        pytest.param(
            ["--model", "/m", *CODE, "--revision", COMMIT], "--source hugg", id="code-of-a-folder"
        ),
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


@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "variable"])
def test_scoring_makes_a_reward_model(by_flag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"type": "Process", "family": "MathPSA", "aggregation": "last", "cache_tokens": 9}'
    flags = ["--model", "x"]
    if by_flag:
        flags += ["--scoring", text]
    else:
        monkeypatch.setenv("MODELWORKER_SCORING", text)
    scoring = what_to_load(load(flags), HubSettings(), created=1).scoring
    assert scoring is not None
    assert (scoring.type, scoring.family) == (ScoreType.PROCESS, Family.MATH_PSA)
    assert (scoring.aggregation, scoring.cache_tokens) == (Aggregation.LAST, 9)


@pytest.mark.parametrize("flags", [[], ["--scoring", ""]], ids=["left-out", "empty"])
def test_no_scoring_makes_a_language_model(flags: list[str]) -> None:
    assert what_to_load(load(["--model", "x", *flags]), HubSettings(), created=1).scoring is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "Invalid JSON", id="no-json"),
        pytest.param("Process", "Invalid JSON", id="word"),
        pytest.param("null", "should be an object", id="null"),
        pytest.param("[]", "should be an object", id="list"),
        pytest.param("{}", ": type: Field required", id="no-type"),
        pytest.param('{"type": "process"}', "'Process' or 'Outcome'; got 'process'", id="type"),
        pytest.param('{"type": "Process", "family": "Qwen"}', "'QwenMathPRM'", id="family"),
        pytest.param('{"type": "Process", "Family": "Auto"}', "Family: Extra inputs", id="field"),
        pytest.param('{"type": "Process", "aggregation": "max"}', "'mean'", id="aggregation"),
        pytest.param('{"type": "Process", "cache_tokens": -1}', "cache_tokens: ", id="negative"),
        pytest.param('{"type": "Process", "beta": NaN}', "beta: ", id="nan"),
        pytest.param(
            '{"type": "Process", "custom": {"position": "Tag", "link": "Log"}}',
            "custom.link: Input should be 'Softmax'",
            id="inside",
        ),
        pytest.param('{"type": 1, "family": 2}', "got 1; family: ", id="two-problems"),
    ],
)
def test_wrong_scoring_names_the_field(
    text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "x", "--scoring", text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--scoring (MODELWORKER_SCORING): ")
    assert says in line


def test_every_problem_has_its_line() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(["--port", "x", "--dtype", "y"])
    assert len(str(caught.value).splitlines()) == 3


def test_an_unknown_flag_or_backend_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--model", "x", "--modle", "y"])
    assert caught.value.code == 2
    assert main(["--model", "x", "--backend", "magic"]) == 2
    assert "Input should be 'transformers' or 'vllm'" in capsys.readouterr().err


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "language model" in text
    assert "reward model" in text
    for option in (
        "--model",
        "--scoring",
        "--gguf-file",
        "--drain-seconds",
        "--heartbeat-token-file",
    ):
        assert option in text


def test_a_worker_by_hand_takes_everybody_and_runs_no_code() -> None:
    settings = load(["--model", "a/b"])
    assert settings.auth == "none"
    assert not what_to_load(settings, HubSettings(), created=1).trust_remote_code


def test_code_that_may_run_is_copied_where_nobody_else_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "environ", {})
    tune_libraries(load(["--model", "a/b"]))
    assert "HF_MODULES_CACHE" not in os.environ
    tune_libraries(load(["--model", "a/b", *CODE, "--revision", COMMIT]))
    folder = Path(os.environ["HF_MODULES_CACHE"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "token"),
    [
        pytest.param("hf_secret", "hf_secret", id="plain"),
        pytest.param("hf_secret\n", "hf_secret", id="of-a-file"),
        pytest.param("  \n", None, id="blank"),
    ],
)
def test_the_hubs_token_is_taken_as_it_lies_in_secrets(
    given: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", given)
    assert what_to_load(load(["--model", "a/b"]), HubSettings(), created=1).token == token


@pytest.mark.parametrize("given", ["hf_secret\nx", "hf_secret x", "hf_secrét", "\x01hf_secret"])
def test_a_hubs_token_that_is_none_is_not_quoted(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", given)
    assert main(["--model", "a/b", "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("HF_TOKEN holds")
    assert "hf_" not in said
