"""What kind and docker are asked for, without either."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelworker_devcluster import binaries
from modelworker_devcluster.errors import DevClusterError, StartFailed
from modelworker_devcluster.node import KindNode, Node, RealNode, choose
from modelworker_devcluster.node.kind import IMAGE, config


class Tools:
    """Answers every command, and fails those that begin with one of `broken`."""

    def __init__(self, *broken: str) -> None:
        self.asked: list[str] = []
        self._broken = broken

    def __call__(self, argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        line = " ".join(argv)
        self.asked.append(line)
        failed = any(line.startswith(one) for one in self._broken)
        return subprocess.CompletedProcess(argv, int(failed), "said", "why")


@pytest.fixture(autouse=True)
def no_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "locate", lambda _: Path("/bin"))


@pytest.mark.parametrize(
    ("there", "broken", "expected"),
    [
        pytest.param({"kind", "docker"}, (), KindNode, id="both"),
        pytest.param({"kind", "docker"}, ("docker info",), RealNode, id="no-daemon"),
        pytest.param({"docker"}, (), RealNode, id="no-kind"),
        pytest.param(set(), (), RealNode, id="neither"),
    ],
)
def test_kind_is_chosen_where_it_works(
    there: set[str], broken: Sequence[str], expected: type[Node]
) -> None:
    found = choose(which=lambda name: name if name in there else None, run=Tools(*broken))
    assert isinstance(found, expected)


def test_a_life(tmp_path: Path) -> None:
    tools = Tools()
    node = KindNode(run=tools)
    node.start()
    name = tools.asked[0].split()[4]
    container = f"{name}-control-plane"
    folder = node.kubeconfig.parent
    node.load_image(Path("/a.tar"))
    assert node.audit_log.read_text() == "said"
    assert node.logs("kubelet") == "said"
    assert node.outside_command(["x", "y"]) == ["x", "y"]
    assert node.inside_command(["x"]) == ["docker", "exec", container, "x"]
    node.stop()
    node.stop()
    files = f"--config {folder}/kind.json --kubeconfig {folder}/kubeconfig"
    assert tools.asked == [
        f"kind create cluster --name {name} {files} --image {IMAGE} --wait 180s",
        f"kind load image-archive /a.tar --name {name}",
        f"docker exec {container} cat /etc/kubernetes/audit/audit.log",
        f"docker exec {container} journalctl --no-pager --unit=kubelet",
        f"kind delete cluster --name {name}",
    ]
    assert not folder.exists()


def test_a_start_that_fails_is_cleaned_up() -> None:
    tools = Tools("kind create")
    node = KindNode(run=tools)
    with pytest.raises(StartFailed, match=r"kind create cluster .*exit code 1: why"):
        node.start()
    assert tools.asked[-1].startswith("kind delete cluster")
    with pytest.raises(DevClusterError, match="does not run"):
        _ = node.kubeconfig


def test_an_unknown_log_is_refused() -> None:
    with pytest.raises(DevClusterError, match="no log of etcd; there are: kubelet, containerd"):
        KindNode(run=Tools()).logs("etcd")


def test_the_audit_log_is_configured() -> None:
    (node,) = config(Path("/here"))["nodes"]
    (patch,) = map(json.loads, node["kubeadmConfigPatches"])
    flags = {one["name"]: one["value"] for one in patch["apiServer"]["extraArgs"]}
    (mount,) = node["extraMounts"]
    (volume,) = patch["apiServer"]["extraVolumes"]
    assert mount == {"hostPath": "/here", "containerPath": volume["hostPath"]}
    assert flags["audit-policy-file"] == f"{volume['mountPath']}/policy.yaml"
