"""Variables, command lines and paths of containers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_devcluster.kubelet.environment import (
    ConfigError,
    Facts,
    Mount,
    Sources,
    command_line,
    expand,
    field_value,
    references,
    resource_value,
    rewrite,
    variables,
)

Object = dict[str, Any]

POD: Object = {
    "metadata": {
        "name": "pod",
        "namespace": "ns",
        "uid": "u-1",
        "labels": {"b": 'say "x"', "app.kubernetes.io/name": "web"},
        "annotations": {"note": "two\nlines"},
    },
    "spec": {
        "serviceAccountName": "robot",
        "containers": [
            {
                "name": "main",
                "resources": {
                    "limits": {"cpu": "1500m", "memory": "1Gi"},
                    "requests": {"cpu": "250m"},
                },
            },
            {"name": "bare"},
        ],
        "initContainers": [{"name": "first", "resources": {"limits": {"cpu": "3"}}}],
    },
}
FACTS = Facts(POD, "127.5.6.7", "node-1", {"cpu": "8", "memory": "16Gi"})
SOURCES = Sources(config_maps={"cm": {"a": "1", "b": "$(A)"}}, secrets={"sec": {"token": "s3cret"}})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("$(A)-$(B)", "1-two", id="both"),
        pytest.param("$(MISSING)", "$(MISSING)", id="unknown-stays"),
        pytest.param("$$(A)", "$(A)", id="escaped"),
        pytest.param("$$$(A)", "$1", id="dollar-then-reference"),
        pytest.param("$A $", "$A $", id="no-brackets"),
        pytest.param("$(A", "$(A", id="unclosed"),
        pytest.param("$()", "$()", id="empty-name"),
        pytest.param("$(A$(B)", "$(A$(B)", id="nested"),
        pytest.param("$$", "$", id="two-dollars"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "two"}) == expanded


@given(st.text())
def test_text_without_dollars_is_left_alone(text: str) -> None:
    bare = text.replace("$", "")
    assert expand(bare, {"A": "1"}) == bare


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        pytest.param("/data", "/host/data", id="the-path-itself"),
        pytest.param("/data/x/y", "/host/data/x/y", id="below"),
        pytest.param("/data/inner/y", "/host/inner/y", id="longest-match"),
        pytest.param("/database", "/database", id="path-boundary"),
        pytest.param("see /data", "see /data", id="not-at-the-start"),
        pytest.param("/log", "/pod/main.termination", id="file"),
        pytest.param('{"a": ["/data/x", 1]}', '{"a": ["/host/data/x", 1]}', id="in-json"),
        pytest.param('{"b":{"c":"/log"}}', '{"b": {"c": "/pod/main.termination"}}', id="deep"),
        pytest.param('{"a":"see /data"}', '{"a":"see /data"}', id="json-without-a-path"),
        pytest.param('{"a": "/data"', '{"a": "/data"', id="no-json"),
        pytest.param("", "", id="empty"),
    ],
)
def test_rewrite(text: str, rewritten: str) -> None:
    mounts = [
        Mount("/data/", Path("/host/data")),
        Mount("/data/inner", Path("/host/inner")),
        Mount("/log", Path("/pod/main.termination")),
    ]
    assert rewrite(text, mounts) == rewritten


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "pod"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app.kubernetes.io/name']", "web"),
        ("metadata.labels['missing']", ""),
        ("metadata.annotations['note']", "two\nlines"),
        ("metadata.labels", 'app.kubernetes.io/name="web"\nb="say \\"x\\""'),
        ("metadata.annotations", 'note="two\\nlines"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.5.6.7"),
        ("status.podIPs", "127.5.6.7"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_field_value(path: str, value: str) -> None:
    assert field_value(FACTS, path) == value


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"spec\.priority"):
        field_value(FACTS, "spec.priority")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        pytest.param({"resource": "limits.cpu"}, "2", id="rounded-up"),
        pytest.param({"resource": "limits.cpu", "divisor": "1m"}, "1500", id="divisor"),
        pytest.param({"resource": "limits.cpu", "divisor": "0"}, "2", id="unset-divisor"),
        pytest.param({"resource": "limits.memory", "divisor": "1Mi"}, "1024", id="memory"),
        pytest.param({"resource": "requests.cpu", "divisor": "1m"}, "250", id="request"),
        pytest.param({"resource": "requests.memory"}, "0", id="no-request"),
        pytest.param(
            {"resource": "limits.cpu", "containerName": "bare"}, "8", id="node-is-the-limit"
        ),
        pytest.param(
            {"resource": "limits.cpu", "containerName": "first"}, "3", id="init-container"
        ),
    ],
)
def test_resource_value(reference: Object, value: str) -> None:
    assert resource_value(FACTS, reference, "main") == value


def test_variables_in_order() -> None:
    container: Object = {
        "name": "main",
        "envFrom": [
            {"prefix": "CM_", "configMapRef": {"name": "cm"}},
            {"secretRef": {"name": "sec"}},
            {"configMapRef": {"name": "absent", "optional": True}},
        ],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(CM_a) $(LATER) $$(A)"},
            {"name": "LATER", "value": "x"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(IP)"},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "b"}}},
            {
                "name": "GONE",
                "valueFrom": {"secretKeyRef": {"name": "sec", "key": "no", "optional": True}},
            },
            {"name": "EMPTY"},
        ],
    }
    assert variables(FACTS, container, SOURCES) == {
        "CM_a": "1",
        "CM_b": "$(A)",
        "token": "s3cret",
        "A": "1",
        "B": "11 $(LATER) $(A)",
        "LATER": "x",
        "IP": "127.5.6.7",
        "URL": "http://127.5.6.7",
        "CPU": "2",
        "KEY": "$(A)",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(
            {"configMapKeyRef": {"name": "none", "key": "k"}},
            'configmap "none" not found',
            id="config-map",
        ),
        pytest.param(
            {"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found', id="secret"
        ),
        pytest.param(
            {"secretKeyRef": {"name": "sec", "key": "k"}},
            "couldn't find key k in Secret ns/sec",
            id="key",
        ),
    ],
)
def test_missing_source_is_named(entry: Object, message: str) -> None:
    container = {"name": "main", "env": [{"name": "X", "valueFrom": entry}]}
    with pytest.raises(ConfigError) as caught:
        variables(FACTS, container, SOURCES)
    assert str(caught.value) == message


def test_references() -> None:
    container: Object = {
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        "env": [
            {"name": "x", "value": "1"},
            {"name": "y", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "z", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
        ],
    }
    assert references(container) == (frozenset("ac"), frozenset("bd"))


def test_command_line() -> None:
    container = {"command": ["run", "$(A)"], "args": ["$$x", "$(NO)"]}
    assert command_line(container, {"A": "1"}) == ["run", "1", "$x", "$(NO)"]
