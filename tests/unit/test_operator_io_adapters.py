"""What workers are told of their adapters, and what they may say of them."""

import json
from typing import Any

import pytest

from tests.operator_listener import Fixture

MATH = {"name": "math", "path": "adapters/math"}
CODE = {"name": "code", "huggingFace": {"repo": "org/code", "revision": "v1"}}


@pytest.mark.parametrize(
    ("spec", "state", "told"),
    [
        pytest.param(
            {"backend": "VLLM", "lora": {"adapters": [MATH, CODE]}},
            "Ready",
            [
                {"name": "math", "source": "local", "location": "/models/adapters/math"},
                {
                    "name": "code",
                    "source": "huggingFace",
                    "location": "org/code",
                    "revision": "v1",
                },
            ],
            id="all-of-the-spec",
        ),
        pytest.param({"backend": "VLLM", "lora": {}}, "Ready", [], id="none-any-more"),
        pytest.param(
            {"backend": "VLLM", "lora": {"adapters": [MATH]}}, "Loading", None, id="not-ready"
        ),
        pytest.param(
            {"backend": "VLLM", "lora": {"adapters": [MATH]}}, "Draining", None, id="draining"
        ),
        pytest.param({"backend": "VLLM"}, "Ready", None, id="no-lora"),
        pytest.param({}, "Ready", None, id="transformers"),
    ],
)
def test_a_ready_worker_is_told_its_adapters(
    spec: dict[str, Any], state: str, told: list[dict[str, Any]] | None
) -> None:
    answer = Fixture(spec=spec).post(json.dumps({"state": state}).encode())
    assert answer.json() == {
        "interval_seconds": 7.0,
        **({} if told is None else {"adapters": told}),
    }


def test_reports_of_many_adapters_with_long_words_fit() -> None:
    word = "x" * 128
    report = {
        "name": word,
        "state": "Failed",
        "location": word * 4,
        "revision": word,
        "message": word * 4,
    }
    body = {"state": "Ready", "message": word * 8, "adapters": [report] * 64}
    assert Fixture().post(json.dumps(body).encode()).status_code == 200
