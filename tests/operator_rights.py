"""The rights that docs/operator.md names, and those that requests of an account needed."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from tests.audit import FORBIDDEN, Right, requests

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "operator.md"
SERVED, OWN, CLUSTER = "served", "own", "cluster"
_SCOPES: Final = {
    "In the namespaces that it serves": SERVED,
    "In its own namespace": OWN,
    "In the whole cluster": CLUSTER,
}


def documented() -> dict[str, set[Right]]:
    """The rights by where they are needed: `served`, `own` or `cluster`."""
    _, _, section = DOCUMENT.read_text().partition("## Rights it needs\n")
    found: dict[str, set[Right]] = defaultdict(set)
    scope = ""
    for line in section.splitlines():
        scope = next((name for words, name in _SCOPES.items() if line.startswith(words)), scope)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("API group", "---"):
            group, resources, verbs = cells
            found[scope] |= {
                Right("" if group == "(core)" else group, resource, verb)
                for resource in resources.split(", ")
                for verb in verbs.split(", ")
            }
    return dict(found)


def rules(rights: set[Right]) -> list[dict[str, Any]]:
    """The rules of a Role that gives these rights."""
    return [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]}
        for one in sorted(rights)
    ]


def used(log: Path, user: str, scopes: dict[str, str]) -> dict[str, set[Right]]:
    """The rights that a user used, by scope; `scopes` names that of each namespace."""
    found: dict[str, set[Right]] = defaultdict(set)
    for namespace, right, code in requests(log, user):
        if code != FORBIDDEN:
            found[scopes.get(namespace, CLUSTER)].add(right)
    return dict(found)
