"""A namespace of pods, seen through kubectl and through the files of their kubelet."""

import json
from pathlib import Path
from typing import Any

from modelworker_devcluster import DevCluster
from tests.support import eventually

Object = dict[str, Any]


class World:
    """The namespace of these tests, and what can be seen in it."""

    def __init__(self, cluster: DevCluster, namespace: str, shared: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.shared = shared

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *args, stdin=stdin)

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def folder(self, name: str) -> Path:
        (folder,) = self.cluster.directory.glob(f"kubelet/pods/{self.namespace}_{name}_*")
        return folder

    def log(self, name: str) -> str:
        return eventually(
            lambda: self.folder(name).joinpath("c.log").read_text(), what=f"output of {name}"
        )

    def phase(self, name: str, *phases: str) -> Object:
        """The status of a pod once it is in one of these phases."""
        return eventually(
            lambda: self.get("pod", name)["status"],
            until=lambda status: status.get("phase") in phases,
            what=f"pod {name} in {phases}",
        )

    def container(self, name: str, state: str, reason: str = "") -> Object:
        """The status of a pod's container once it is in a state, for a reason."""

        def seen() -> Object:
            statuses = self.get("pod", name)["status"].get("containerStatuses") or [{}]
            found: Object = statuses[0]
            return found

        return eventually(
            seen,
            until=lambda one: (
                one.get("state", {}).get(state, {"reason": "-"}).get("reason", "") == reason
            ),
            what=f"container of {name} {state} {reason}",
        )

    def events(self, name: str) -> list[str]:
        listed = json.loads(
            self.kubectl("get", "events", "-o=json", f"--field-selector=involvedObject.name={name}")
        )
        return [event["message"] for event in listed["items"]]
