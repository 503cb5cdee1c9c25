"""A ModelWorker's status -> what a caller needs of it; errors by HTTP answer."""

import pickle
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from modelworker import _errors, _refusals
from modelworker._object import NO_STATUS, View, view_of
from modelworker._results import Chunk
from modelworker_api import kube

URL = "http://10.0.0.1:8000"


def condition(
    kind: str, status: str, reason: str, message: str = "", **more: Any
) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, **more}


def body(generation: int = 2, **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"metadata": {"generation": 1}}, View(), id="no-status"),
        pytest.param(
            body(
                url="http://mw-policy.ns.svc:8000",
                workers=[
                    {"pod": "a", "address": "10.0.0.1:8000", "state": "Ready"},
                    {"pod": "b", "address": "10.0.0.2:8000", "state": "Draining"},
                    {"pod": "c", "address": "10.0.0.3:8000", "state": "Loading", "progress": 40},
                    {"pod": "d", "state": "Pending"},
                    {"pod": "e", "address": "[fd00::5]:8000", "state": "Ready"},
                ],
                conditions=[condition("Ready", "False", "Loading", "pod c loads")],
            ),
            View(
                workers=("http://10.0.0.1:8000", "http://[fd00::5]:8000"),
                pods={"http://10.0.0.1:8000": "a", "http://[fd00::5]:8000": "e"},
                service="http://mw-policy.ns.svc:8000",
                waiting="Loading: pod c loads",
                percent=40,
            ),
            id="only-ready-workers",
        ),
        pytest.param(
            body(conditions=[condition("Accepted", "False", "InvalidSpec", "no source")]),
            View(rejected="InvalidSpec: no source"),
            id="rejected",
        ),
        pytest.param(
            body(
                conditions=[
                    condition("Accepted", "False", "InvalidSpec", "old", observedGeneration=1)
                ]
            ),
            View(),
            id="rejection-of-an-older-spec",
        ),
        pytest.param(
            body(conditions=[condition("Ready", "False", "InsufficientGPU")]),
            View(waiting="InsufficientGPU"),
            id="reason-without-message",
        ),
        pytest.param(
            body(workers=[{"progress": 70}, {"progress": 20}, {"progress": None}]),
            View(percent=20, waiting=NO_STATUS),
            id="slowest-load-counts",
        ),
    ],
)
def test_view(given: dict[str, Any], expected: View) -> None:
    assert view_of(given) == expected


def words(kind: str, message: str = "said") -> dict[str, Any]:
    return {"object": "error", "message": message, "error": {"message": message, "type": kind}}


@pytest.mark.parametrize(
    ("status", "payload", "kind"),
    [
        pytest.param(400, words("invalid_request_error"), _errors.InvalidRequest, id="400"),
        pytest.param(400, words("context_length_exceeded"), _errors.ContextTooLong, id="context"),
        pytest.param(
            400,
            {"error": {"message": "maximum context length is 8"}},
            _errors.ContextTooLong,
            id="context-of-another-server",
        ),
        pytest.param(401, words("unauthorized"), _errors.AccessDenied, id="401"),
        pytest.param(403, words("forbidden"), _errors.AccessDenied, id="403"),
        pytest.param(404, words("model_not_found"), _errors.ModelNotServed, id="model"),
        pytest.param(404, words("not_found"), _errors.Unsupported, id="route"),
        pytest.param(405, {"detail": "Method Not Allowed"}, _errors.Unsupported, id="method"),
        pytest.param(422, {"detail": [{"msg": "x"}]}, _errors.InvalidRequest, id="fastapi"),
        pytest.param(429, words("overloaded"), _errors.Overloaded, id="429"),
        pytest.param(500, words("internal_error"), _errors.WorkerFailed, id="500"),
        pytest.param(501, words("unsupported"), _errors.Unsupported, id="501"),
        pytest.param(502, "<html>bad gateway</html>", _errors.Unavailable, id="502"),
        pytest.param(503, words("unavailable"), _errors.Unavailable, id="503"),
        pytest.param(504, "", _errors.Unavailable, id="504"),
        pytest.param(302, "", _errors.WorkerFailed, id="redirect"),
        pytest.param(999, "", _errors.WorkerFailed, id="nonsense"),
    ],
)
def test_errors_by_answer(status: int, payload: object, kind: type[Exception]) -> None:
    error = _errors.from_answer(status, payload, worker=URL)
    assert type(error) is kind
    assert error.worker == URL


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("3", 3.0, id="seconds"),
        pytest.param("0.5", 0.5, id="fraction"),
        pytest.param("-1", None, id="negative"),
        pytest.param("nan", None, id="nan"),
        pytest.param("inf", None, id="infinite"),
        pytest.param("Wed, 21 Oct 2026 07:28:20 GMT", 20.0, id="date"),
        pytest.param("Wed, 21 Oct 2026 07:27:00 GMT", 0.0, id="date-that-has-passed"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    at = datetime(2026, 10, 21, 7, 28, tzinfo=UTC).timestamp()
    assert _errors.seconds_of(header, clock=lambda: at) == seconds


@pytest.mark.parametrize(
    ("status", "type_", "words"),
    [
        pytest.param(403, _errors.AccessDenied, "--resource={plural}.modelworker.dev", id="403"),
        pytest.param(401, _errors.AccessDenied, "credentials.*`kubectl get {short}`", id="401"),
        pytest.param(404, _errors.NotInstalled, "kind {kind}: .*kubectl apply", id="404"),
        pytest.param(410, _errors.Expired, "said", id="410"),
        pytest.param(500, _errors.ClusterUnavailable, "answered 500", id="500"),
    ],
)
@pytest.mark.parametrize("kind", kube.KINDS, ids=lambda kind: kind.short)
def test_errors_of_the_api_server(
    status: int, type_: type[Exception], words: str, kind: kube.Kind
) -> None:
    error = _refusals.from_cluster(status, "said", kind=kind, namespace="ns", server="https://h")
    assert type(error) is type_
    assert re.search(words.format(**asdict(kind)), str(error))


def test_errors_survive_pickling_and_keep_what_they_carry() -> None:
    broken = _errors.StreamInterrupted("broke", (Chunk(0, "a", (5,)), Chunk(0, "b", (6, 7))))
    broken.worker = URL
    copied = pickle.loads(pickle.dumps(broken))
    assert (copied.text, copied.token_ids, copied.worker) == ("ab", (5, 6, 7), URL)
    full = _errors.from_answer(429, "", worker=URL, retry_after="3")
    assert pickle.loads(pickle.dumps(full)).retry_after == 3.0
    assert issubclass(_errors.InvalidRequest, ValueError)
    assert issubclass(_errors.NotReady, TimeoutError)
