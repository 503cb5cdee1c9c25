"""Whose pod this is, by the token that is mounted; no network."""

import base64
import json
from pathlib import Path

import pytest

from modelworker import _kube


def token(claims: object) -> str:
    """Something of a token's form that says this."""
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


@pytest.mark.parametrize(
    ("content", "account"),
    [
        pytest.param(token({"sub": "system:serviceaccount:lab:runner"}), "lab/runner", id="own"),
        pytest.param(token({"sub": "system:node:a"}), None, id="no-service-account"),
        pytest.param(token({"sub": "system:serviceaccount:lab"}), None, id="too-short"),
        pytest.param(token({}), None, id="no-subject"),
        pytest.param(token([]), None, id="no-claims"),
        pytest.param(token({"sub": 5}), None, id="number"),
        pytest.param("nonsense", None, id="no-token"),
        pytest.param("a.b.c", None, id="no-json"),
        pytest.param(None, None, id="no-file"),
    ],
)
def test_own_account(
    content: str | None, account: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(_kube, "SERVICE_TOKEN_FILENAME", str(path))
    assert _kube._own_account() == account
