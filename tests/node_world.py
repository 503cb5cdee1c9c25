"""The chart, installed on a real node from images built here, and a model to serve."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fill_volume import copy_gguf
from modelworker_devcluster.node import Node
from tests.support import eventually

ROOT = Path(__file__).parents[1]
SYSTEM = "modelworker-system"
USERS = "research"
RELEASE = "modelworker"
CHART = ROOT / "helm" / "modelworker"
TAG = "e2e"

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
    "pod-security.kubernetes.io/audit": "restricted",
}


@dataclass(frozen=True)
class World:
    """A node with the chart, seen by somebody on another machine.

    Everything here runs where neither pods nor Services can be reached, only the API server.
    """

    node: Node
    helm_binary: Path
    home: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl in the users' namespace."""
        return self.node.kubectl("-n", USERS, *arguments, stdin=stdin)

    def read(self, *arguments: str, namespace: str = USERS) -> dict[str, Any]:
        """What `kubectl get ... -o json` gives."""
        text = self.node.kubectl("-n", namespace, "get", *arguments, "-o", "json")
        found: dict[str, Any] = json.loads(text)
        return found

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm in the operator's namespace; its words when it fails."""
        argv = [str(self.helm_binary), "--namespace", SYSTEM, *arguments]
        return self.outside(argv)

    def values(self, **more: str) -> list[str]:
        """The values of this installation, as flags."""
        values = {"image.tag": TAG, "workers.image.tag": TAG, **more}
        return [
            part for key, value in values.items() for part in ("--set-string", f"{key}={value}")
        ]

    def plugin(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `kubectl modelworker` through kubectl itself."""
        return self.outside(["kubectl", "modelworker", *arguments, "-n", USERS], check=check)

    def python(self, code: str) -> Any:
        """What a program of a user prints, as JSON."""
        return json.loads(self.outside([sys.executable, "-c", code]).stdout)

    def outside(self, argv: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the other machine.

        Raises:
            AssertionError: with its words, when it fails and `check` is set.
        """
        done = subprocess.run(
            self.node.outside_command(argv),
            stdin=subprocess.DEVNULL,
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
        return done

    def environment(self) -> dict[str, str]:
        """What such a command finds in its environment."""
        found = self.node.environment({"HOME": str(self.home), "NO_COLOR": "1"})
        # kubectl finds its plugin beside the Python that has it.
        return {**found, "PATH": f"{found['PATH']}{os.pathsep}{Path(sys.executable).parent}"}

    def fill_volume(self) -> None:
        """The claim of the examples, with the model in it."""
        folder = self.home / "models"
        copy_gguf(folder / "smollm2")
        self.node.volume("models", folder, namespace=USERS)

    def ready(self, what: str, replicas: int = 1) -> dict[str, Any]:
        """The object, once it is Ready with so many workers."""

        def seen() -> dict[str, Any]:
            return self.read(what)

        def is_ready(found: dict[str, Any]) -> bool:
            status = found.get("status", {})
            conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
            return (
                conditions.get("Ready") == "True"
                and status.get("readyReplicas") == replicas
                and status.get("observedGeneration") == found["metadata"]["generation"]
            )

        return eventually(seen, until=is_ready, timeout=300, interval=1, what=f"Ready {what}")

    def workers(self) -> dict[str, str]:
        """The uid of each worker's pod, by name."""
        pods = self.read("pods", "-l", "app.kubernetes.io/managed-by=modelworker")["items"]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def example(name: str) -> str:
    """A manifest of the examples."""
    return (ROOT / "examples" / name).read_text()


def without_claim(manifests: str) -> str:
    """The documents of an example that are no volume claims."""
    documents = manifests.split("\n---\n")
    return "\n---\n".join(one for one in documents if "kind: PersistentVolumeClaim" not in one)
