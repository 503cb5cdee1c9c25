"""The schema as a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelworker_api import kube
from modelworker_operator.spec import RESERVED_ENV, RESERVED_ENV_PREFIX

CRD = Path(__file__).parents[2] / "crds/modelworker.yaml"


@pytest.fixture(scope="module")
def crd() -> Any:
    return yaml.safe_load(CRD.read_text())


@pytest.fixture(scope="module")
def schema(crd: Any) -> Any:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key], f"{path}[]")


def test_names(crd: Any) -> None:
    assert crd["spec"]["group"] == kube.GROUP
    assert crd["spec"]["names"]["kind"] == kube.MODELWORKER.kind
    assert crd["spec"]["names"]["plural"] == kube.MODELWORKER.plural
    assert crd["spec"]["names"]["shortNames"] == [kube.MODELWORKER.short]
    assert crd["spec"]["versions"][0]["name"] == kube.VERSION


def test_size() -> None:
    assert len(CRD.read_bytes()) <= 64 * 1024
    # kubectl apply keeps a copy in an annotation, whose limit is 256 KiB.
    assert len(yaml.safe_dump(yaml.safe_load(CRD.read_text())).encode()) <= 128 * 1024


def test_every_field_is_described(schema: Any) -> None:
    missing = [
        path
        for path, field in fields(schema)
        if path != ".metadata" and not field.get("description")
    ]
    assert missing == []


def test_every_bound_is_set(schema: Any) -> None:
    """Lists and strings of the spec have a limit: without one, rules on them cost too much."""
    spec = schema["properties"]["spec"]
    unbounded = [
        path
        for path, field in fields(spec)
        if (field.get("type") == "array" and "maxItems" not in field)
        or (field.get("type") == "string" and "maxLength" not in field and "enum" not in field)
    ]
    assert unbounded == []


def test_states_and_reserved_variables_are_those_of_the_code(schema: Any) -> None:
    status = schema["properties"]["status"]["properties"]
    states = status["workers"]["items"]["properties"]["state"]["enum"]
    assert states == [state.value for state in kube.WorkerState]
    rules = str(schema["properties"]["spec"]["properties"]["env"])
    assert all(name in rules for name in (*RESERVED_ENV, RESERVED_ENV_PREFIX))
    assert kube.MAX_NAME_LENGTH == 50
    assert "size(self.metadata.name) <= 50" in str(schema["x-kubernetes-validations"])
