"""What the chart's files promise, without Helm."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart_support import CHART, ROOT

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())

METRIC = re.compile(
    r"\b(?:modelworker|controller_runtime|rest_client|workqueue|leader_election)_[a-z_]+\b"
)
LABELS = {"modelworker_dev_name", "modelworker_dev_kind"}
"""Labels of pods as Prometheus writes them."""
MONITORING = ("templates/prometheusrule.yaml", "files/dashboard.json")
SUFFIXES = {"Counter": ("_total",), "Histogram": ("_bucket", "_sum", "_count")}


def test_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (METADATA["version"], METADATA["appVersion"]) == (version, version)


@pytest.mark.parametrize("name", sorted(file.name for file in (ROOT / "crds").glob("*.yaml")))
def test_crd_is_a_copy(name: str) -> None:
    ours = ROOT / "crds" / name
    copy = CHART / "files" / "crds" / name
    assert copy.read_bytes() == ours.read_bytes(), "run `make docs`"


def test_no_other_crd_is_in_the_chart() -> None:
    copies = sorted(file.name for file in (CHART / "files/crds").iterdir())
    assert copies == sorted(file.name for file in (ROOT / "crds").iterdir())


def test_crds_named_in_the_metadata() -> None:
    named = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crds"])
    crds = [yaml.safe_load(file.read_text()) for file in (ROOT / "crds").glob("*.yaml")]
    assert sorted(one["name"] for one in named) == sorted(one["metadata"]["name"] for one in crds)


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


@pytest.mark.parametrize("path", sorted(leaves(VALUES)))
def test_value_has_a_schema(path: str) -> None:
    schema = SCHEMA
    for key in path.split("."):
        if "properties" not in schema:  # a map of the user's own keys
            assert schema["additionalProperties"] is not True
            break
        assert schema["additionalProperties"] is False, path
        schema = resolved(schema["properties"][key])


MAY_BE_NULL = {
    "podDisruptionBudget.maxUnavailable",
    "podDisruptionBudget.minAvailable",
    "resources.limits",
    "resources.requests",
    "runAsUser",
}


def test_values_cannot_be_taken_out() -> None:
    """Null takes a value out; templates would stumble, or go on without it."""

    def optional(schema: dict[str, Any], values: Any, path: str) -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            if isinstance(values, dict) and key in values:
                if key not in schema.get("required", ()):
                    yield f"{path}{key}"
                yield from optional(resolved(inner), values[key], f"{path}{key}.")

    assert set(optional(SCHEMA, VALUES, "")) == MAY_BE_NULL


def test_schema_has_no_value_that_is_not_there() -> None:
    def paths(schema: dict[str, Any], values: Any, path: str) -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            if not isinstance(values, dict) or key not in values:
                yield f"{path}{key}"
            elif isinstance(values[key], dict) and values[key]:
                yield from paths(resolved(inner), values[key], f"{path}{key}.")

    assert list(paths(SCHEMA, VALUES, "")) == ["global"]  # Helm's own


def exposed() -> set[str]:
    """Every name that Prometheus can see, from the calls that make metrics."""
    names = set()
    for file in (
        ROOT / "operator/modelworker_operator/health.py",
        ROOT / "operator/modelworker_operator/runtime.py",
        ROOT / "worker_image/modelworker_server/metrics.py",
    ):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                maker = ast.unparse(node.func)
                if maker in ("Counter", "Histogram", "Gauge", "GaugeMetricFamily", "_counted"):
                    name = str(node.args[0].value)
                    names |= {f"{name}{end}" for end in SUFFIXES.get(maker, ("",))}
            elif isinstance(node, ast.Tuple) and len(node.elts) == 3:
                first = node.elts[0]  # a gauge of the operator's report
                if isinstance(first, ast.Constant) and METRIC.fullmatch(str(first.value)):
                    names.add(str(first.value))
    return names


@pytest.mark.parametrize("file", MONITORING)
def test_metrics_exist(file: str) -> None:
    text = (CHART / file).read_text()
    expressions = " ".join(
        re.findall(r'"expr": "(.*)"', text) or re.findall(r"expr: (.*(?:\n {12}.*)*)", text)
    )
    named = set(METRIC.findall(expressions)) - LABELS
    assert len(named) > 5
    assert named - exposed() == set()


def test_alerts_point_at_reasons_that_exist() -> None:
    text = (CHART / "templates/prometheusrule.yaml").read_text()
    headings = set(
        re.findall(r"^### (\w+)", (ROOT / "docs/conditions.md").read_text(), re.MULTILINE)
    )
    named = {word for word in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", text) if word in headings}
    assert named == {"ApplyForbidden", "HeartbeatStale"}
    assert re.findall(r"docs/(\w+\.md)", text)
    for page in re.findall(r"docs/(\w+\.md)", text):
        assert (ROOT / "docs" / page).is_file()


def test_dashboard_is_whole() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert panel["type"] == "row" or all(
            target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"]
        )


def test_no_template_is_made_of_values() -> None:
    for file in (CHART / "templates").rglob("*"):
        if file.is_file():
            assert not re.search(r"\btpl\b", file.read_text()), file.name
