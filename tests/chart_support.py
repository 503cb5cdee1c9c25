"""Helm and the chart, for tests."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from modelworker_devcluster import binaries

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "modelworker"
RELEASE = "modelworker"
SYSTEM = "modelworker-system"
RESTRICTED = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
"""Labels of a namespace that takes pods of the restricted Pod Security Standard alone."""

Object = dict[str, Any]
Found = dict[tuple[str, str], Object]
"""Objects by kind and name."""


@cache
def helm_binary() -> Path:
    """The helm command."""
    return binaries.locate_helm(print)


@dataclass(frozen=True)
class Helm:
    """Helm with a home of its own, and a cluster where there is one."""

    home: Path
    kubeconfig: Path | None = None
    namespace: str = SYSTEM

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it, however it ends."""
        home = str(self.home)
        environment = {
            "PATH": os.environ["PATH"],
            **dict.fromkeys(
                ("HOME", "HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"), home
            ),
            "KUBECONFIG": str(self.kubeconfig or self.home / "none"),
        }
        argv = [str(helm_binary()), "--namespace", self.namespace, *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    def good(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            AssertionError: with its words, when it fails.
        """
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def template(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = RELEASE,
        chart: Path = CHART,
    ) -> list[Object]:
        """The objects that the chart makes of the values, hooks included."""
        flags = self.values(values or {})
        return documents(self.good("template", release, str(chart), *flags))

    def values(self, values: Mapping[str, Any]) -> list[str]:
        """The flags that give these values."""
        if not values:
            return []
        file = self.home / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        return ["--values", str(file)]


def documents(text: str) -> list[Object]:
    """The objects of a stream of YAML documents."""
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]


def by_name(objects: Sequence[Object]) -> Found:
    """The objects by kind and name; no two have the same."""
    found = {
        (one["kind"], f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"): one
        for one in objects
    }
    assert len(found) == len(objects)
    return found


def one(objects: Sequence[Object], kind: str, ending: str = "") -> Object:
    """The only object of the kind whose name has that ending."""
    (found,) = (
        each
        for each in objects
        if each["kind"] == kind and each["metadata"]["name"].endswith(ending)
    )
    return found


def kinds(objects: Sequence[Object]) -> set[str]:
    """The kinds of the objects."""
    return {each["kind"] for each in objects}


def pod(objects: Sequence[Object]) -> Object:
    """The spec of the operator's pods."""
    spec: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(objects: Sequence[Object]) -> Object:
    """The operator's container."""
    found: Object = pod(objects)["containers"][0]
    return found


def settings(objects: Sequence[Object]) -> dict[str, Any]:
    """The environment of the operator's container by name, without what comes from fields."""
    return {
        item["name"].removeprefix("MODELWORKER_OPERATOR_"): item["value"]
        for item in container(objects)["env"]
        if "value" in item
    }


def copy_of_chart(folder: Path, version: str) -> Path:
    """The chart under another version."""
    copy = folder / f"chart-{version}"
    shutil.copytree(CHART, copy)
    file = copy / "Chart.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(
        "".join(f"version: {version}\n" if one.startswith("version:") else one for one in lines)
    )
    return copy
