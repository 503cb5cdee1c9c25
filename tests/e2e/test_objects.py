"""Objects that cannot work say why; kubectl does what a user expects."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelworker import LM, ModelWorkerError, ModelWorkerNotFound, NoCluster
from tests.e2e.conftest import Platform
from tests.support import eventually

ROOT = Path(__file__).parents[2]


def source(**member: Any) -> dict[str, Any]:
    return {"model": {"source": member, "dtype": "float32"}}


@pytest.mark.parametrize(
    ("name", "spec", "reason", "message"),
    [
        pytest.param(
            "no-such-path",
            source(pvc={"claimName": "models", "path": "nothing/here"}),
            "ModelNotFound",
            "nothing/here",
            id="unknown-model-path",
        ),
        pytest.param(
            "too-many-gpus",
            {"gpu": {"count": 3}},
            "InsufficientGPU",
            "nvidia.com/gpu",
            id="more-gpus-than-the-node",
        ),
        pytest.param(
            "no-such-claim",
            source(pvc={"claimName": "nowhere"}),
            "VolumeClaimNotFound",
            "nowhere",
            id="unknown-claim",
        ),
        pytest.param(
            "no-such-image",
            {"image": "example.invalid/worker:1"},
            "ImagePullFailed",
            "example.invalid/worker:1",
            id="unknown-image",
        ),
        pytest.param(
            "no-such-secret",
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]},
            "ContainerConfigError",
            "gone",
            id="unknown-secret",
        ),
        pytest.param(
            "too-long",
            {
                "model": {
                    **Platform.manifest("x")["spec"]["model"],
                    "maxModelLen": 1_000_000,
                }
            },
            "ModelTooLong",
            "maxModelLen",
            id="context-longer-than-the-model",
        ),
    ],
)
def test_object_that_cannot_work_says_why(
    platform: Platform, name: str, spec: dict[str, Any], reason: str, message: str
) -> None:
    platform.apply(name, **spec)
    try:
        condition = eventually(
            lambda: platform.condition(name, "Ready"),
            until=lambda one: one.get("reason") == reason,
            timeout=90,
            what=f"Ready condition with reason {reason}",
        )
        assert condition["status"] == "False"
        assert message in condition["message"]
        with (
            pytest.raises(ModelWorkerError, match=reason),
            platform.lm(name, ready_timeout=1) as lm,
        ):
            lm.generate("hi")
    finally:
        platform.kubectl("delete", "mw", name)


def test_unknown_name_says_what_exists(platform: Platform, two_workers: str) -> None:
    with (
        pytest.raises(ModelWorkerNotFound, match=two_workers),
        platform.lm("no-such-model") as lm,
    ):
        lm.generate("hi")


def test_no_kubeconfig_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(NoCluster, match="KUBECONFIG"), LM("policy") as lm:
        lm.generate("hi")


def test_quickstart_example_runs(platform: Platform) -> None:
    manifest = str(ROOT / "examples/smollm2.yaml")
    platform.kubectl("apply", "-f", manifest)
    platform.kubectl("wait", "--for=condition=Ready", "mw/smollm2", "--timeout=180s")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/quickstart.py")],
        env=platform.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    row = platform.kubectl("get", "mw", "smollm2", "--no-headers").split()
    assert row[0] == "smollm2"
    platform.kubectl("delete", "mw", "smollm2", "--wait=true")
    eventually(
        lambda: platform.kubectl(
            "get", "deployments,services,pods", "-l", "modelworker.dev/name=smollm2", "-o", "name"
        ),
        until=lambda text: not text.strip(),
        timeout=60,
        what="no child left after kubectl delete",
    )


def test_scale_by_kubectl_is_never_fought(platform: Platform, two_workers: str) -> None:
    platform.kubectl("scale", f"mw/{two_workers}", "--replicas=1")
    platform.wait_ready(two_workers, 1)
    child = json.loads(platform.kubectl("get", "deployment", f"mw-{two_workers}", "-o", "json"))
    assert child["spec"]["replicas"] == 1
    platform.kubectl("scale", f"mw/{two_workers}", "--replicas=2")
    platform.wait_ready(two_workers, 2)


def test_status_holds_no_secret_and_url_is_the_service(
    platform: Platform, two_workers: str
) -> None:
    status = platform.object(two_workers)["status"]
    assert status["url"] == f"http://mw-{two_workers}.{platform.namespace}.svc:8000"
    assert status["selector"]
    assert {one["state"] for one in status["workers"]} == {"Ready"}
