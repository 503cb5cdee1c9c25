"""Which rights an account used, from the API server's audit log."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CREATED: Final = 201
FORBIDDEN: Final = 403


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource; `resource` is `deployments` or `modelworkers/status`."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


def granted(roles: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Every right that Roles and ClusterRoles give."""
    return {
        Right(group, resource, verb)
        for role in roles
        for rule in role["rules"] or ()
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
    }


def requests(log: Path, user: str) -> list[tuple[str, Right, int]]:
    """Each request of a user on a resource: its namespace, the right and the status code."""
    found = []
    for line in log.read_text().splitlines():
        event = json.loads(line)
        target = event.get("objectRef")
        if target and event["user"]["username"] == user:
            resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
            group, namespace = target.get("apiGroup", ""), target.get("namespace", "")
            code = event.get("responseStatus", {}).get("code", 0)
            found.append((namespace, Right(group, resource, event["verb"]), code))
            if event["verb"] == "patch" and code == CREATED:
                # An apply of what does not exist yet needs both.
                found.append((namespace, Right(group, resource, "create"), code))
    return found


def used(log: Path, user: str) -> set[Right]:
    """The rights that a user used."""
    return {right for _, right, code in requests(log, user) if code != FORBIDDEN}


def refused(log: Path, user: str) -> set[Right]:
    """The rights that a user lacked."""
    return {right for _, right, code in requests(log, user) if code == FORBIDDEN}
