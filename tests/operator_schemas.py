"""The schemas of the CRDs as files, for tests of what they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from modelworker_api import kube

CRDS: Final = Path(__file__).parents[1] / "crds"
FILES: Final = {kind: CRDS / f"{kind.kind.lower()}.yaml" for kind in kube.KINDS}


def crd(kind: kube.Kind) -> Any:
    """The whole CustomResourceDefinition."""
    return yaml.safe_load(FILES[kind].read_text())


def schema(kind: kube.Kind) -> Any:
    """The schema of its one version."""
    return crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def spec_of(kind: kube.Kind) -> Any:
    """The schema of `spec`."""
    return schema(kind)["properties"]["spec"]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema, itself included, by dotted path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}".removeprefix("."))
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key], f"{path}[]")
