"""AdaptersLoaded and `status.adapters` of a ModelWorker with LoRA adapters."""

from collections.abc import Mapping
from typing import Any

import pytest

from modelworker_api import kube
from modelworker_api.adapters import AdapterReport, AdapterState
from modelworker_operator.spec import WorkerObject, identify
from modelworker_operator.status import Beat, Observed, Problem, condition_of, status_for
from modelworker_operator.transitions import transitions
from tests.operator_objects import (
    LATER,
    NOW,
    beat,
    condition,
    modelworker,
    pod,
    raw_modelworker,
    status_of,
)

A, B = "mw-smol-1-a", "mw-smol-1-b"
MATH = {"name": "math", "path": "adapters/math"}
CODE = {"name": "code", "huggingFace": {"repo": "org/code", "revision": "v1"}}
PLACES = {"math": ("/models/adapters/math", None), "code": ("org/code", "v1")}
Type = kube.ConditionType


def worker(
    *adapters: Mapping[str, Any], status: Mapping[str, Any] | None = None, **fields: Any
) -> WorkerObject:
    lora = {"adapters": list(adapters)}
    return modelworker(backend="VLLM", status=status, lora=lora, **fields)


def said(**states: str) -> Beat:
    """A heartbeat with adapters by name: a state, or how one failed."""
    reports = []
    for name, state in states.items():
        location, revision = PLACES[name]
        known = state in set(AdapterState)
        reports.append(
            AdapterReport(
                name=name,
                state=AdapterState(state) if known else AdapterState.FAILED,
                location=location,
                revision=revision,
                message="" if known else state,
            )
        )
    return beat(adapters=reports)


def status(
    beats: Mapping[str, Beat | None],
    *adapters: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """The status with ready pods by name, each with its heartbeat if it sent one."""
    subject = worker(*adapters, status=before, replicas=max(1, len(beats)))
    pods = [pod(name, ready=True) for name in beats]
    heard = {name: one for name, one in beats.items() if one}
    return status_of(subject, *pods, beats=heard, **given)


def entry(name: str, state: str, loaded: int, **fields: str) -> dict[str, Any]:
    return {"name": name, "state": state, "loadedReplicas": loaded, **fields}


FAILED = "no adapter_config.json"


@pytest.mark.parametrize(
    ("beats", "adapters", "entries", "verdict", "words"),
    [
        pytest.param(
            {},
            [MATH],
            [entry("math", "Loading", 0)],
            ("False", "AdaptersLoading"),
            "no worker is ready",
            id="no-worker",
        ),
        pytest.param(
            {A: beat()},
            [MATH],
            [entry("math", "Loading", 0)],
            ("False", "AdaptersLoading"),
            "0 of 1 adapters are loaded; math by 0 of 1 ready workers",
            id="not-heard-of-yet",
        ),
        pytest.param(
            {A: said(math="Loaded", code="Loading")},
            [MATH, CODE],
            [entry("math", "Loaded", 1), entry("code", "Loading", 0)],
            ("False", "AdaptersLoading"),
            "1 of 2 adapters are loaded; code by 0 of 1",
            id="one-to-go",
        ),
        pytest.param(
            {A: said(math="Loaded"), B: said(math="Loading")},
            [MATH],
            [entry("math", "Loading", 1)],
            ("False", "AdaptersLoading"),
            "math by 1 of 2 ready workers",
            id="one-worker-to-go",
        ),
        pytest.param(
            {A: said(code="Loaded", math="Loaded"), B: said(math="Loaded", code="Loaded")},
            [MATH, CODE],
            [entry("math", "Loaded", 2), entry("code", "Loaded", 2)],
            ("True", "AdaptersLoaded"),
            "2 of 2 adapters are loaded by every ready worker (2)",
            id="loaded",
        ),
        pytest.param(
            {A: said(math="Loaded"), B: said(math=FAILED)},
            [MATH],
            [entry("math", "Failed", 1, message=f"pod {B}: {FAILED}")],
            ("False", "AdapterFailed"),
            f"adapter math failed, pod {B}: {FAILED} (1 of 1 adapters failed); correct its path",
            id="failed-on-one",
        ),
        pytest.param(
            {A: said(math="Loaded", code="Loaded")},
            [MATH],
            [entry("math", "Loaded", 1)],
            ("True", "AdaptersLoaded"),
            "1 of 1",
            id="one-that-was-removed-is-not-told",
        ),
        pytest.param(
            {A: said(math="Loaded")},
            [{**MATH, "path": "adapters/newer"}],
            [entry("math", "Loading", 0)],
            ("False", "AdaptersLoading"),
            "0 of 1",
            id="loaded-from-another-place",
        ),
        pytest.param(
            {A: said(code="Loaded")},
            [{**CODE, "huggingFace": {"repo": "org/code", "revision": "v2"}}],
            [entry("code", "Loading", 0)],
            ("False", "AdaptersLoading"),
            "0 of 1",
            id="loaded-at-another-revision",
        ),
    ],
)
def test_adapters(
    beats: Mapping[str, Beat | None],
    adapters: list[dict[str, Any]],
    entries: list[dict[str, Any]],
    verdict: tuple[str, str],
    words: str,
) -> None:
    found = status(beats, *adapters)
    assert found["adapters"] == entries
    one = condition(found, Type.ADAPTERS_LOADED)
    assert (one["status"], one["reason"]) == verdict
    assert words in one["message"]
    assert [entry["type"] for entry in found["conditions"]] == [
        "Accepted",
        "Available",
        "Progressing",
        "AdaptersLoaded",
        "Ready",
    ]


def test_failures_do_not_make_the_worker_unready() -> None:
    assert condition(status({A: said(math=FAILED)}, MATH), Type.READY)["status"] == "True"


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(worker(), id="no-adapters"),
        pytest.param(modelworker(backend="VLLM"), id="no-lora"),
        pytest.param(modelworker(), id="transformers"),
    ],
)
def test_without_adapters_nothing_is_said_of_them(subject: WorkerObject) -> None:
    found = status_of(subject, pod(A, ready=True), beats={A: said(math="Loaded")})
    assert "adapters" not in found
    assert condition_of(found, Type.ADAPTERS_LOADED) == {}


def test_removed_adapters_leave_the_status() -> None:
    before = status({A: said(math="Loaded")}, MATH)
    after = status({A: said(math="Loaded")}, before=before)
    assert "adapters" not in after
    assert condition_of(after, Type.ADAPTERS_LOADED) == {}


@pytest.mark.parametrize("word", ["Loaded", "Loading", FAILED])
def test_a_worker_that_was_not_heard_since_a_restart_keeps_its_state(word: str) -> None:
    before = status({A: said(math=word)}, MATH)
    after = status({A: None}, MATH, before=before, now=LATER, in_grace=True)
    assert after["adapters"] == before["adapters"]
    kept = condition(after, Type.ADAPTERS_LOADED)
    assert kept == condition(before, Type.ADAPTERS_LOADED)


def test_what_was_said_of_another_spec_is_not_kept() -> None:
    before = {**status({A: said(math="Loaded")}, MATH), "observedGeneration": 0}
    after = status({A: None}, MATH, before=before)
    assert after["adapters"] == [entry("math", "Loading", 0)]


def test_an_invalid_spec_leaves_what_was_known() -> None:
    before = status({A: said(math="Loaded")}, MATH)
    raw = raw_modelworker(status=before, generation=2)
    after = status_for(
        identify(kube.MODELWORKER, raw),
        Observed(None, None, ()),
        {},
        problem=Problem(kube.Reason.INVALID_SPEC, "x"),
        in_grace=False,
        now=NOW,
    )
    assert after["adapters"] == before["adapters"]
    kept = condition(after, Type.ADAPTERS_LOADED)
    assert (kept["status"], kept["observedGeneration"]) == ("True", 1)


def test_long_and_secret_words_of_a_worker_are_cut() -> None:
    secret = "hf_" + "a" * 30
    found = status({A: said(math=f"{secret} " + "x" * 400)}, MATH)
    message = found["adapters"][0]["message"]
    assert secret not in message
    assert len(message) <= 300


def test_events() -> None:
    none = status({A: beat()})
    loading = status({A: said(math="Loading")}, MATH)
    loaded = status({A: said(math="Loaded")}, MATH)
    failed = status({A: said(math=FAILED)}, MATH)

    def events(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
        return [(event.type, event.reason.value) for event in transitions(old, new)]

    assert events(none, loading) == []
    assert events(loading, loaded) == [("Normal", "AdaptersLoaded")]
    assert events(loaded, failed) == [("Warning", "AdapterFailed")]
    assert events(loaded, none) == []
