"""From raw objects to frozen values, also for objects that an older schema let in."""

from typing import Any

import pytest

from modelworker_api import kube
from modelworker_operator import names
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec import (
    HostPathSource,
    HuggingFaceSource,
    PvcSource,
    SecretKey,
    identify,
    parse,
)
from tests.operator_manifests import METADATA
from tests.operator_objects import raw_modelworker

HUB = {"repo": "a/b", "revision": "abc"}


def test_defaults_without_the_crd() -> None:
    spec = parse(kube.MODELWORKER, raw_modelworker()).spec
    assert spec.model.name == "smol"
    assert spec.model.source == PvcSource("models", "smollm2")
    assert (spec.model.dtype, spec.model.max_model_len, spec.model.gguf_file) == (
        "auto",
        None,
        None,
    )
    assert (spec.replicas, spec.gpu.count, spec.gpu.resource_name) == (1, 0, None)
    assert spec.auth is None
    assert (spec.heartbeat.interval_seconds, spec.heartbeat.stale_after_seconds) == (10, 45)
    assert (spec.concurrency.max_running, spec.concurrency.max_queued) == (32, 256)
    assert (spec.drain_timeout_seconds, spec.progress_deadline_seconds) == (60, 3600)


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        pytest.param({"huggingFace": HUB}, HuggingFaceSource("a/b", "abc", None, None), id="hub"),
        pytest.param(
            {"huggingFace": {**HUB, "tokenSecretRef": {"name": "s"}, "endpoint": "http://h"}},
            HuggingFaceSource("a/b", "abc", SecretKey("s", "token"), "http://h"),
            id="hub-token-mirror",
        ),
        pytest.param({"pvc": {"claimName": "c"}}, PvcSource("c", ""), id="pvc"),
        pytest.param({"hostPath": {"path": "/m"}}, HostPathSource("/m"), id="host-path"),
    ],
)
def test_sources(source: dict[str, Any], parsed: Any) -> None:
    worker = parse(kube.MODELWORKER, raw_modelworker(model={"source": source}))
    assert worker.spec.model.source == parsed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"model": None}, "spec.model.source has no member; set exactly one", id="none"
        ),
        pytest.param({"model": "x"}, "spec.model must be an object", id="text-for-object"),
        pytest.param(
            {"model": {"source": {"huggingFace": HUB, "pvc": {"claimName": "c"}}}},
            "huggingFace and pvc; set exactly one",
            id="two",
        ),
        pytest.param(
            {"model": {"source": {"huggingFace": {"repo": "a/b"}}}},
            "spec.model.source.huggingFace.revision is missing; set it",
            id="no-revision",
        ),
        pytest.param(
            {"model": {"source": {"pvc": {"claimName": "c", "path": "../x"}}}},
            "set a relative path without '..'",
            id="pvc-dots",
        ),
        pytest.param(
            {"model": {"source": {"hostPath": {"path": "x"}}}},
            "set an absolute path",
            id="relative",
        ),
        pytest.param({"replicas": -1}, "spec.replicas is -1; set a whole number >= 0", id="-1"),
        pytest.param({"replicas": True}, "spec.replicas is True", id="bool"),
        pytest.param({"gpu": {"count": 1.5}}, "spec.gpu.count is 1.5", id="half-gpu"),
        pytest.param(
            {"backend": "X"}, "spec.backend is 'X'; set one of Transformers", id="backend"
        ),
        pytest.param({"image": 3}, "spec.image must be a string", id="image"),
        pytest.param(
            {"env": [{"name": "HF_TOKEN"}]}, "names HF_TOKEN, which the operator", id="env"
        ),
        pytest.param(
            {"auth": {"mode": "token"}}, "spec.auth.mode is 'token'; set one of Token", id="auth"
        ),
        *(
            pytest.param(
                {"model": {"source": {"huggingFace": {**HUB, "endpoint": url}}}},
                "name the hub's own host",
                id=f"metadata-{url[7:]}",
            )
            for url in METADATA
        ),
        *(
            pytest.param(
                {"model": {"source": {"huggingFace": {**HUB, "endpoint": url}}}},
                "huggingFace.endpoint is no URL of a hub; set one",
                id=f"endpoint-{url}",
            )
            for url in ("file:///etc", "hub", "https://u:p@hub", "http://", "http://[")
        ),
        pytest.param({"env": ["X"]}, "spec.env must be a list of objects", id="env-text"),
        pytest.param({"env": [{"value": "x"}]}, "spec.env[].name is missing", id="env-unnamed"),
    ],
)
def test_refused_with_the_field_and_what_to_do(spec: dict[str, Any], message: str) -> None:
    raw = raw_modelworker(**spec)
    with pytest.raises(InvalidSpec) as refused:
        parse(kube.MODELWORKER, raw)
    assert message in str(refused.value)
    assert identify(kube.MODELWORKER, raw).name == "smol"


@pytest.mark.parametrize("name", ["a" * 51, "a.b", "A", ""])
def test_name_refused(name: str) -> None:
    raw = raw_modelworker()
    raw["metadata"]["name"] = name
    with pytest.raises(InvalidSpec, match=r"metadata\.name"):
        parse(kube.MODELWORKER, raw)


def test_identify_needs_nothing() -> None:
    assert identify(kube.MODELWORKER, {}).generation == 0


@pytest.mark.parametrize("name", ["a" * 50, "7b", "a"])
def test_child_names_are_labels_that_begin_with_a_letter(name: str) -> None:
    raw = raw_modelworker()
    raw["metadata"]["name"] = name
    child = names.child_name(parse(kube.MODELWORKER, raw))
    assert child == f"mw-{name}"
    assert len(child) <= 63
