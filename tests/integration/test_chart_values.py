"""What each value of the chart changes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.chart_support import CHART, ROOT, Helm, Object
from tests.chart_values_pods import CASES as PODS
from tests.chart_values_release import CASES as RELEASE

CASES = [*RELEASE, *PODS]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.mark.parametrize(("values", "seen", "wanted"), CASES)
def test_value_changes(
    helm: Helm, values: Object, seen: Callable[[list[Object]], Any], wanted: Any
) -> None:
    assert seen(helm.template(values)) == wanted


def test_every_value_is_in_the_table() -> None:
    """A value without an effect, or without a test of it, is found here."""

    def paths(values: Object, path: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            here = f"{path}{key}"
            found |= {here} | (paths(value, f"{here}.") if isinstance(value, dict) else set())
        return found

    set_somewhere = set().union(*(paths(cast("Object", case.values[0])) for case in CASES))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert paths(defaults) - set_somewhere == {
        "resources.requests",
        "resources.requests.cpu",
        "resources.requests.memory",
        "metrics.dashboard.labels.grafana_dashboard",
    }


SNIPPETS = re.findall(
    r"^### ([^\n]+)\n(?:(?!###).)*?```yaml\n# values.yaml\n(.*?)```",
    (ROOT / "docs" / "install.md").read_text(),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize("text", [pytest.param(text, id=title) for title, text in SNIPPETS])
def test_values_of_the_documentation(helm: Helm, text: str) -> None:
    assert helm.template(yaml.safe_load(text)) != helm.template()


def test_package(helm: Helm, tmp_path: Path) -> None:
    helm.good("package", str(CHART), "--destination", str(tmp_path))
    assert helm.template({}, chart=tmp_path / "modelworker-0.1.0.tgz") == helm.template({})
