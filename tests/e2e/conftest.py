"""One devcluster with the operator and a model in a volume, for all end-to-end tests."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fill_volume import model_file
from modelworker import LM, RMCall
from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.support import eventually

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Platform:
    """What an end-to-end test works with: a cluster, and a namespace with the model in it."""

    cluster: DevCluster
    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def object(self, name: str, short: str = "mw") -> dict[str, Any]:
        """The ModelWorker, or with `short="rwm"` the RewardModel, as it is now."""
        found: dict[str, Any] = json.loads(self.kubectl("get", short, name, "-o", "json"))
        return found

    def condition(self, name: str, kind: str, short: str = "mw") -> dict[str, Any]:
        """One condition of the object; empty while there is none."""
        conditions = self.object(name, short).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def apply(self, name: str, **spec: Any) -> None:
        """Apply a ModelWorker that loads SmolLM2 from the volume; `spec` overrides."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(self.manifest(name, **spec)))

    def apply_reward(self, name: str, scoring: dict[str, Any], **spec: Any) -> None:
        """Apply a RewardModel that loads SmolLM2 from the volume; `spec` overrides."""
        manifest = self.manifest(name, kind="RewardModel", scoring=scoring, **spec)
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    @staticmethod
    def manifest(name: str, *, kind: str = "ModelWorker", **spec: Any) -> dict[str, Any]:
        """What `apply` and `apply_reward` apply."""
        model = {
            "source": {"pvc": {"claimName": "models", "path": "smollm2"}},
            "ggufFile": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "dtype": "float32",
        }
        # One compute thread each, and a small request: many workers share two cores.
        resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}
        return {
            "apiVersion": "modelworker.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {"model": model, "resources": resources, **spec},
        }

    def wait_ready(
        self, name: str, replicas: int, timeout: float = 180.0, short: str = "mw"
    ) -> None:
        """Until the object is Ready with that many replicas."""

        def seen() -> tuple[Any, ...]:
            found = self.object(name, short)
            status = found.get("status", {})
            ready = self.condition(name, "Ready", short)
            return (
                ready.get("status") == "True"
                and status.get("readyReplicas", 0) == replicas
                and status.get("observedGeneration") == found["metadata"]["generation"],
                ready,
                status.get("workers"),
            )

        eventually(seen, until=lambda s: bool(s[0]), timeout=timeout, what=f"Ready {name}")

    def pods(self, name: str, kind: str = "ModelWorker") -> list[dict[str, Any]]:
        """The pods of an object, oldest first."""
        selector = f"modelworker.dev/kind={kind},modelworker.dev/name={name}"
        text = self.kubectl("get", "pods", "-l", selector, "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return sorted(items, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def lm(self, name: str, **options: Any) -> LM:
        """A client for the ModelWorker."""
        return LM(
            name,
            namespace=self.namespace,
            kubeconfig=str(self.cluster.kubeconfig),
            **options,
        )

    def rm(self, name: str, **options: Any) -> RMCall:
        """A client for the RewardModel."""
        return RMCall(
            name,
            namespace=self.namespace,
            kubeconfig=str(self.cluster.kubeconfig),
            **options,
        )

    def headers(self) -> dict[str, str]:
        """What a call shows that `LM` does not make."""
        audience = f"--audience={kube.INFERENCE_AUDIENCE}"
        token = self.kubectl("create", "token", "default", audience).strip()
        return {"authorization": f"Bearer {token}"}

    def volume(self) -> Path:
        """The folder behind the claim that every object's model comes from."""
        volume = self.kubectl("get", "pvc", "models", "-o", "jsonpath={.spec.volumeName}")
        return Path(self.kubectl("get", "pv", volume, "-o", "jsonpath={.spec.hostPath.path}"))

    def environment(self) -> dict[str, str]:
        """Environment for a program that uses the cluster."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "PATH": f"{self.cluster.binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "devcluster"),
        }


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A devcluster with the operator, and the namespace `default` with a filled volume."""
    with DevCluster(node={"nvidia.com/gpu": "2"}) as cluster:
        cluster.install_operator()
        made = Platform(cluster, "default")
        claim = (ROOT / "examples/smollm2.yaml").read_text().split("\n---\n")[0]
        made.kubectl("apply", "-f", "-", stdin=claim)
        subprocess.run(
            [sys.executable, str(ROOT / "examples/fill_volume.py")],
            check=True,
            env=made.environment(),
        )
        yield made


@pytest.fixture(scope="session")
def two_workers(platform: Platform) -> str:
    """Name of a ModelWorker with two ready replicas, shared by the tests that leave it so."""
    platform.apply("policy", replicas=2)
    platform.wait_ready("policy", 2)
    return "policy"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SmolLM2 file, for calling transformers directly."""
    folder = tmp_path_factory.mktemp("smollm2")
    shutil.copy(model_file(), folder)
    return folder
