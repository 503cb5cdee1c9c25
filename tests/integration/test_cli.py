"""The plugin on a real API server, through the real kubectl."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modelworker.cli._app import run
from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.operator_support import Objects, install_crds
from tests.support import eventually

SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def place(control_plane: DevCluster) -> Iterator[Objects]:
    """A namespace with the kinds, and with nobody who serves them."""
    install_crds(control_plane)
    objects = Objects(control_plane, f"cli-{uuid4().hex[:6]}")
    control_plane.kubectl("create", "namespace", objects.namespace)
    objects.apply_worker("policy")
    Objects(control_plane, objects.namespace, kube.REWARDMODEL).apply_worker("prm")
    yield objects
    control_plane.kubectl("delete", "namespace", objects.namespace, "--wait=false")


def kubectl(
    place: Objects, *arguments: str, kubeconfig: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """`kubectl ARGUMENTS`, with our scripts on PATH."""
    folder = place.cluster.binaries
    return subprocess.run(
        ["kubectl", *arguments],
        env={
            **os.environ,
            "PATH": f"{folder}:{SCRIPTS}:{os.environ['PATH']}",
            "KUBECONFIG": str(kubeconfig or place.cluster.kubeconfig),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def plugin(place: Objects, *words: str, kubeconfig: Path | None = None) -> Any:
    """`kubectl modelworker WORDS` in the namespace."""
    return kubectl(place, "modelworker", *words, "-n", place.namespace, kubeconfig=kubeconfig)


def set_status(place: Objects, kind: kube.Kind, name: str, **status: Any) -> None:
    """Write the status as the operator does."""
    place.kubectl(
        "patch",
        kind.plural,
        name,
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps({'status': status})}",
    )


def condition(kind: str, status: str, reason: str, message: str = "said so") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param("--model a/b", id="hub"),
        pytest.param("--model a/b --revision v1 --token-secret hub", id="hub-with-token"),
        pytest.param("--pvc models", id="volume"),
        pytest.param("--pvc models --path a/b --gguf m.gguf --dtype float32", id="gguf"),
        pytest.param("--pvc m --backend VLLM --gpus 16 --replicas 1000", id="vllm"),
        pytest.param("--pvc m --replicas 0 --gpus 0 --image r.example/w:1 --auth None", id="none"),
        pytest.param("--pvc m --auth Token", id="token"),
        pytest.param("--pvc m --reward --type Process", id="auto"),
        pytest.param("--pvc m --reward --type Process --aggregation Product", id="aggregation"),
        pytest.param("--pvc m --reward --family MathShepherd --backend VLLM", id="process-vllm"),
        pytest.param("--pvc m --reward --family QwenMathRM --backend VLLM", id="outcome-vllm"),
        pytest.param("--pvc m --reward --family SkyworkPRM --gpus 1", id="process"),
        pytest.param("--pvc m --reward --family ArmoRM", id="outcome"),
    ],
)
def test_what_is_generated_is_accepted(
    place: Objects, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    assert run(["generate", "x", "-n", place.namespace, *flags.split()]) == 0
    written = capsys.readouterr().out
    place.kubectl("apply", "--dry-run=server", "--validate=strict", "-f-", stdin=written)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param(["status", ""], ["policy", "prm"], id="names"),
        pytest.param(["chat", "p"], ["policy"], id="language-models"),
        pytest.param(["logs", "rwm/"], ["rwm/prm"], id="with-a-kind"),
        pytest.param(["sc"], ["score"], id="verbs"),
    ],
)
def test_kubectl_completes(place: Objects, words: list[str], found: list[str]) -> None:
    given = ["-n", place.namespace] if len(words) > 1 else []
    done = kubectl(place, "__complete", "modelworker", *words[:-1], *given, words[-1])
    *lines, directive = done.stdout.splitlines()
    assert [line.partition("\t")[0] for line in lines] == found, done.stderr
    assert directive == ":4"


def test_status_of_what_nobody_serves(place: Objects) -> None:
    done = plugin(place, "status", "-o", "json")
    assert done.returncode == 1, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["items"]}
    assert {name: one["reason"] for name, one in found.items()} == {
        "policy": "NoStatus",
        "prm": "NoStatus",
    }
    assert "is the operator running?" in found["policy"]["message"]


def test_doctor_of_what_nobody_serves(place: Objects) -> None:
    done = plugin(place, "doctor", "-o", "json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["items"]
    by_level = {level: {one["check"] for one in found if one["level"] == level} for level in LEVELS}
    assert by_level == {
        "OK": {"cluster", "crds", "rights", "gpus"},
        "WARN": {"workers"},
        "FAIL": {"operator"},
    }
    assert len([one for one in found if one["check"] == "crds"]) == len(kube.KINDS)


LEVELS = ("OK", "WARN", "FAIL")


def test_wait_sees_ready_rejected_and_deleted(place: Objects) -> None:
    for name in ("good", "bad", "gone"):
        place.apply_worker(name)
    ready, accepted = condition("Ready", "True", "AllReplicasReady"), "Accepted"
    set_status(place, kube.MODELWORKER, "good", observedGeneration=1, conditions=[ready])
    rejected = condition(accepted, "False", "InvalidSpec", "spec.model is wrong")
    set_status(place, kube.MODELWORKER, "bad", observedGeneration=1, conditions=[rejected])

    done = plugin(place, "wait", "mw/good")
    assert (done.returncode, done.stdout) == (0, "mw/good condition met\n"), done.stderr
    done = plugin(place, "wait", "bad")
    assert done.returncode == 1
    assert "can never be Ready: InvalidSpec: spec.model is wrong" in done.stderr
    place.kubectl("delete", "mw", "gone")
    done = plugin(place, "wait", "mw/gone", "--for=delete")
    assert (done.returncode, done.stdout) == (0, "mw/gone deleted\n"), done.stderr
    done = plugin(place, "wait", "policy", "--timeout=1s")
    assert done.returncode == 1
    assert "not Ready within 1s: mw/policy 0/1 NoStatus" in done.stderr
    place.kubectl("delete", "mw", "good", "bad")


@pytest.fixture(scope="module")
def reader(place: Objects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of somebody who may do what docs/client.md says, and no more."""
    place.kubectl("create", "serviceaccount", "reader")
    kinds = ",".join(f"{kind.plural}.{kube.GROUP}" for kind in kube.KINDS)
    place.kubectl("create", "role", "reader", "--verb=get,list,watch", f"--resource={kinds}")
    place.kubectl(
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        f"--serviceaccount={place.namespace}:reader",
    )
    token = eventually(
        lambda: place.kubectl("create", "token", "reader").strip(), what="a service account"
    )
    file = tmp_path_factory.mktemp("reader") / "kubeconfig"
    file.write_bytes(Path(place.cluster.kubeconfig).read_bytes())
    for arguments in (
        ["set-credentials", "reader", f"--token={token}"],
        ["set-context", "--current", "--user=reader"],
    ):
        done = kubectl(place, "config", *arguments, kubeconfig=file)
        assert done.returncode == 0, done.stderr
    return file


def test_with_few_rights_it_says_what_it_cannot_see(place: Objects, reader: Path) -> None:
    done = plugin(place, "status", "policy", kubeconfig=reader)
    assert done.returncode == 1
    assert "mw/policy in" in done.stdout
    assert "warning: pods cannot be looked at" in done.stderr
    assert "warning: events cannot be looked at" in done.stderr


def test_doctor_tells_missing_rights_from_needed_ones(place: Objects, reader: Path) -> None:
    done = plugin(place, "doctor", "-o", "json", kubeconfig=reader)
    found = [one for one in json.loads(done.stdout)["items"] if one["check"] == "rights"]
    missing = {one["message"].split(" in ")[0] for one in found if one["level"] == "WARN"}
    assert missing == {
        "no right to create serviceaccounts/token",
        "no right to get pods/proxy",
        "no right to create pods/proxy",
        "no right to list pods",
        "no right to get pods/log",
        "no right to list events.events.k8s.io",
    }
    assert not [one for one in found if one["level"] == "FAIL"]


@pytest.mark.parametrize(
    ("words", "words_of_error"),
    [
        pytest.param(["logs", "policy"], "pods is forbidden", id="logs"),
        pytest.param(["logs", "--operator"], "leases", id="operator"),
    ],
)
def test_no_access(place: Objects, reader: Path, words: list[str], words_of_error: str) -> None:
    done = plugin(place, *words, kubeconfig=reader)
    assert done.returncode == 3
    assert done.stderr.startswith("error: the API server refused: ")
    assert words_of_error in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_cluster(place: Objects, tmp_path: Path) -> None:
    done = plugin(place, "status", kubeconfig=tmp_path / "none")
    assert done.returncode == 3
    assert done.stderr.startswith("error: no cluster: there is no kubeconfig at ")


def test_versions(place: Objects) -> None:
    done = kubectl(place, "modelworker", "version", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kubernetes"].startswith("v1.")
    assert "the operator's version is not known" in done.stderr
