"""Writes what is made from other files: two references, and the chart's copy of the CRDs.

`make docs` runs it; `--check` writes nothing and fails when a file is out of date.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
CRDS: Final = tuple(sorted((ROOT / "crds").glob("*.yaml")))
CHART: Final = ROOT / "helm" / "modelworker"

_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?: |$)")
_COMMENT: Final = re.compile(r"^ *# ?(?P<text>.*)$")
_START: Final = "-- "
_LIMITS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} character(s)",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} keys",
    "pattern": "matches `{}`",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a reference table."""

    name: str
    kind: str
    default: str
    text: str


def main() -> int:
    """Write all of them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a file is out of date")
    check = parser.parse_args().check
    files = {
        DOCS / "crds.md": crds_page(),
        DOCS / "values.md": values_page((CHART / "values.yaml").read_text()),
        **{CHART / "files" / "crds" / file.name: file.read_text() for file in CRDS},
    }
    stale = {file: text for file, text in files.items() if _differs(file, text)}
    for file, text in stale.items():
        if not check:
            file.write_text(text)
        verdict = "out of date; run `make docs`" if check else "written"
        print(f"{file.relative_to(ROOT)}: {verdict}")
    return 1 if check and stale else 0


def crds_page() -> str:
    """The reference of both kinds, field by field."""
    parts = [
        "# The fields of both kinds\n",
        "Made from the CRDs by `make docs`; `kubectl explain mw.spec --recursive` on a cluster.\n",
    ]
    for file in CRDS:
        document = yaml.safe_load(file.read_text())
        version = document["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        names = document["spec"]["names"]
        parts.append(f"## {names['kind']}\n")
        parts.append(
            f"`{document['spec']['group']}/{version['name']}`, short name "
            f"`{names['shortNames'][0]}`. {schema['description']}\n"
        )
        for part in ("spec", "status"):
            parts.append(f"### {names['kind']}.{part}\n")
            rows = [*fields(schema["properties"][part], part)]
            parts.append(table(("field", "type", "default", "what it is"), rows))
    return "\n".join(parts)


def fields(schema: Mapping[str, Any], path: str) -> Iterator[Row]:
    """Each field below `path`, depth first."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        here = f"{path}.{name}" + ("[]" if field.get("type") == "array" else "")
        words = [" ".join(str(field.get("description", "")).split())]
        words += [form.format(field[key]) for key, form in _LIMITS.items() if key in field]
        words += [rule["message"] for rule in _rules(field) if "message" in rule]
        yield Row(
            here,
            _type(field) + (", required" if name in required else ""),
            "" if field.get("default") in (None, {}) else f"`{json.dumps(field['default'])}`",
            "; ".join(word.rstrip(".;") for word in words if word),
        )
        yield from fields(inner, here)


def values_page(text: str) -> str:
    """The reference of the chart's values.

    Raises:
        ValueError: a value has no description.
    """
    documented = dict(descriptions(text))
    defaults = dict(_leaves(yaml.safe_load(text)))
    unknown = [name for name in defaults if not _covered(name, documented)]
    if unknown:
        raise ValueError(f"values.yaml: no `# -- ` comment above {', '.join(unknown)}")
    rows = [
        Row(name, "", f"`{json.dumps(defaults[name])}`" if name in defaults else "", said)
        for name, said in documented.items()
    ]
    heading = "# Values of the chart\n\nMade from `helm/modelworker/values.yaml` by `make docs`.\n"
    return f"{heading}\n{table(('value', 'default', 'what it does'), rows)}"


def descriptions(text: str) -> Iterator[tuple[str, str]]:
    """Each key of a values file that has a `# -- ` comment above it, with the comment."""
    parents: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            said = comment["text"]
            if said.startswith(_START):
                words = [said.removeprefix(_START)]
            elif words:
                words.append(said)
        elif key := _KEY.match(line):
            indent = len(key["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent]
            parents.append((indent, key["key"]))
            if words:
                yield ".".join(name for _, name in parents), " ".join(words).strip()
            words = []
        else:
            words = []


def table(head: tuple[str, ...], rows: list[Row]) -> str:
    """A Markdown table; the column of types is left out where no row has one."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = (f"`{row.name}`", *((row.kind,) if row.kind else ()), row.default, row.text)
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _covered(name: str, documented: Mapping[str, str]) -> bool:
    """Whether the value, or an object around it, has a description."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in documented for end in range(len(parts), 0, -1))


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return str(field.get("type", "any"))


def _rules(field: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in (field, field.get("items", {}), field.get("additionalProperties", {})):
        if isinstance(part, dict):
            yield from part.get("x-kubernetes-validations", ())


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _differs(file: Path, text: str) -> bool:
    return not file.is_file() or file.read_text() != text


if __name__ == "__main__":
    sys.exit(main())
