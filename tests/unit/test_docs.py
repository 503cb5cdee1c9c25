"""The references are made from their sources, and the links of the documents lead somewhere."""

import re
from pathlib import Path

import pytest

import generate

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("helm/**/*.md")])
VALUES = """
# Not about a value.

image:
  # -- Where it
  # comes from.
  name: a
# -- Objects
# around it.
objects:
  - b: 1
"""


def test_values_have_their_comments() -> None:
    assert dict(generate.descriptions(VALUES)) == {
        "image.name": "Where it comes from.",
        "objects": "Objects around it.",
    }


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no `# -- ` comment above tag"):
        generate.values_page(f"{VALUES}tag: c\n")


def test_fields_say_type_default_and_rules() -> None:
    schema = {
        "required": ["names"],
        "properties": {
            "names": {
                "type": "array",
                "description": "The\n  names.",
                "maxItems": 2,
                "items": {"type": "object", "properties": {"one": {"enum": ["A", "B"]}}},
            },
            "count": {
                "type": "integer",
                "default": 1,
                "x-kubernetes-validations": [{"rule": "self > 0", "message": "must be positive"}],
            },
        },
    }
    assert [*generate.fields(schema, "spec")] == [
        generate.Row("spec.names[]", "list of object, required", "", "The names; at most 2 items"),
        generate.Row("spec.names[].one", "`A` or `B`", "", ""),
        generate.Row("spec.count", "integer", "`1`", "must be positive"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(#[^)]*)?\)", page.read_text())
    local = [target for target, _ in links if not target.startswith(("http:", "https:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []
