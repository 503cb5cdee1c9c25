"""The arguments of LM and RMCall."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest

from modelworker import LM, AsyncLM, AsyncRMCall, InvalidRequest, RMCall, _kube
from modelworker_api import kube


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"name": ""}, "name must be lower-case", id="empty"),
        pytest.param({"name": "Policy"}, "name must be", id="upper-case"),
        pytest.param({"name": "a.b"}, "name must be", id="dot"),
        pytest.param({"name": "-a"}, "name must be", id="dash-first"),
        pytest.param({"name": "a\n"}, "name must be", id="newline"),
        pytest.param({"name": "a" * 51}, "at most 50", id="too-long"),
        pytest.param({"name": None}, "name must be", id="none"),
        pytest.param({"name": "", "endpoints": ["http://h"]}, "served model", id="no-model-name"),
        pytest.param({"name": "a", "namespace": "A"}, "namespace must be", id="namespace"),
        pytest.param({"name": "a", "endpoints": []}, "one URL or more", id="no-endpoints"),
        pytest.param({"name": "a", "endpoints": "http://h"}, "one URL or more", id="text"),
        pytest.param({"name": "a", "endpoints": ["h:80"]}, "http://host:port", id="no-scheme"),
        pytest.param({"name": "a", "timeout": 0}, "timeout must be a positive", id="timeout-0"),
        pytest.param({"name": "a", "ready_timeout": float("nan")}, "ready_timeout", id="nan"),
        pytest.param({"name": "a", "max_in_flight": 0}, "max_in_flight must be", id="in-flight-0"),
        pytest.param({"name": "a", "api_key": ""}, "api_key must be", id="key-empty"),
        pytest.param({"name": "a", "api_key": "a b"}, "api_key must be", id="key-of-two-words"),
        pytest.param({"name": "a", "api_key": 5}, "api_key must be a text", id="key-number"),
        pytest.param({"name": "a", "access": "tunnel"}, "access must be 'auto'", id="access"),
        pytest.param({"name": "a", "service_account": "A"}, "service_account must", id="account"),
        pytest.param({"name": "a", "service_account": "a/b/c"}, "NAMESPACE/NAME", id="account-3"),
        pytest.param(
            {"name": "a", "endpoints": ["http://h"], "access": "proxy"},
            "finds workers through the Kubernetes API",
            id="proxy-to-endpoints",
        ),
        pytest.param(
            {"name": "a", "endpoints": ["http://h"], "service_account": "a"},
            "with endpoints pass a token as api_key",
            id="account-for-endpoints",
        ),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    for kind in (LM, AsyncLM, RMCall, AsyncRMCall):
        with pytest.raises(InvalidRequest, match=message):
            kind(**arguments)


def test_a_served_model_may_have_any_name_with_endpoints() -> None:
    lm = LM("Qwen/Qwen2.5-0.5B", endpoints=["http://h:8000/v1/", "https://g/base"])
    assert repr(lm) == ("LM('Qwen/Qwen2.5-0.5B', endpoints=['http://h:8000', 'https://g/base'])")


def test_state_is_the_arguments(tmp_path: Path) -> None:
    reach: dict[str, Any] = {"access": "proxy", "service_account": "lab/a", "api_key": "secret"}
    lm = LM("policy", namespace="ns", kubeconfig=tmp_path / "config", context="c", **reach)
    copied = pickle.loads(pickle.dumps(lm))
    assert copied.aio.__getstate__() == lm.aio.__getstate__()
    assert copied.aio.__getstate__().kubeconfig == str(tmp_path / "config")
    assert repr(copied) == "LM('policy', namespace='ns')"


def test_a_reward_models_state_is_its_arguments() -> None:
    rm = RMCall("prm", namespace="ns", aggregation="last", allow_mixed_revisions=True)
    copied = pickle.loads(pickle.dumps(rm))
    state = copied.aio.__getstate__()
    assert state == rm.aio.__getstate__() == pickle.loads(pickle.dumps(rm.aio)).__getstate__()
    assert (state.kind, state.aggregation, state.timeout) == (kube.REWARDMODEL, "last", 600)
    assert state.allow_mixed_revisions
    assert LM("policy").aio.__getstate__().kind == kube.MODELWORKER
    assert LM("policy").aio.__getstate__().timeout == 600
    assert repr(copied) == "RMCall('prm', namespace='ns')"
    assert repr(copied.aio) == "AsyncRMCall('prm', namespace='ns')"


@pytest.mark.parametrize("kind", [LM, RMCall])
def test_both_faces_take_the_same_arguments(kind: type) -> None:
    sync, core = inspect.signature(kind), inspect.signature(kind._core)  # type: ignore[attr-defined]
    assert sync == core
    assert {"namespace", "endpoints", "timeout"} < set(sync.parameters)


def test_where_the_kubeconfig_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert _kube.kubeconfig_files(None) is None
    default = tmp_path / ".kube/config"
    default.parent.mkdir()
    default.touch()
    assert _kube.kubeconfig_files(None) == str(default)
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    assert _kube.kubeconfig_files(None) == "/a:/b"
    assert _kube.kubeconfig_files("~/mine") == str(tmp_path / "mine")
