"""Settings of the vLLM backend, and what is said of wrong ones."""

import os
from typing import get_args

import pytest

from modelworker_server.__main__ import what_to_load
from modelworker_server.credentials import DevelopmentSettings, HubSettings
from modelworker_server.settings import (
    InvalidSettings,
    Settings,
    load,
    tune_libraries,
)
from modelworker_server.workers.registry import BACKENDS

MODEL = ["--model", "/m"]
VLLM = [*MODEL, "--backend", "vllm"]
ROUTES = '{"development_routes": true}'


def test_the_engine_is_configured_by_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKER_BACKEND", "vllm")
    monkeypatch.setenv("MODELWORKER_VLLM", '{"max_lora_rank": 8, "extra_args": ["--seed", "1"]}')
    monkeypatch.setenv("MODELWORKER_ADAPTER_DIR", "/models")
    config = what_to_load(load(MODEL), HubSettings(), created=1)
    assert (config.vllm.max_lora_rank, config.vllm.extra_args) == (8, ("--seed", "1"))
    assert config.adapter_dir == "/models"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param([*MODEL, "--vllm", "{}"], "--vllm: for --backend vllm", id="other-backend"),
        pytest.param([*MODEL, "--adapter-dir", "/a"], "--adapter-dir: for", id="adapters"),
        pytest.param([*VLLM, "--vllm", "{"], "--vllm", id="no-json"),
        pytest.param([*VLLM, "--vllm", '{"max_loras": 0}'], "max_loras", id="out-of-range"),
        pytest.param([*VLLM, "--vllm", '{"unknown": 0}'], "unknown", id="unknown-field"),
        pytest.param(
            [*VLLM, "--vllm", '{"extra_args": ["--port", "1"]}'], "--port", id="reserved-flag"
        ),
        pytest.param([*MODEL, "--backend", "sglang"], "'transformers' or 'vllm'", id="backend"),
    ],
)
def test_wrong_settings_are_told(flags: list[str], said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(flags)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("engine", "token", "expected"),
    [
        pytest.param("{}", None, None, id="closed"),
        pytest.param("{}", "secret", None, id="closed-with-token"),
        pytest.param(ROUTES, "secret", "secret", id="open"),
    ],
)
def test_development_routes_need_a_token(
    engine: str, token: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token is not None:
        monkeypatch.setenv("MODELWORKER_DEVELOPMENT_TOKEN", token)
    given = DevelopmentSettings()
    assert given.token_for(load([*VLLM, "--vllm", engine])) == expected
    assert "secret" not in repr(given)


def test_development_routes_without_a_token_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="MODELWORKER_DEVELOPMENT_TOKEN"):
        DevelopmentSettings().token_for(load([*VLLM, "--vllm", ROUTES]))


def test_every_backend_can_be_chosen() -> None:
    assert set(get_args(Settings.model_fields["backend"].annotation)) == set(BACKENDS)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [pytest.param("{}", None, id="closed"), pytest.param(ROUTES, "1", id="open")],
)
def test_vllm_has_development_routes_only_if_they_were_asked_for(
    engine: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"VLLM_SERVER_DEV_MODE": "yes", "VLLM_HOST_IP": "10.0.0.1"}
    settings = load([*VLLM, "--vllm", engine])
    monkeypatch.setattr(os, "environ", environment)
    tune_libraries(settings)
    assert environment.get("VLLM_SERVER_DEV_MODE") == expected
    # What the user set stays; vLLM tells nobody what it serves.
    assert environment["VLLM_HOST_IP"] == "10.0.0.1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
