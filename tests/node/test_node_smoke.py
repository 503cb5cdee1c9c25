"""What a real node does: pods, Services, names, logs, volumes, and nothing left behind."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from modelworker_devcluster.errors import DevClusterError, KubectlFailed
from modelworker_devcluster.node import Node, RealNode
from modelworker_devcluster.node.configs import PAUSE_IMAGE
from tests.support import eventually

PORT = 8080
WORD = "a-word-from-the-volume"


def pod(name: str, *command: str, restricted: bool = True) -> dict[str, Any]:
    """A pod of the node's own image, with the claim `data` at /data."""
    container: dict[str, Any] = {
        "name": "main",
        "image": PAUSE_IMAGE,
        "command": command,
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    }
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    if restricted:
        spec["securityContext"] = {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]},
}


@pytest.fixture(scope="module", autouse=True)
def only_ours(node: Node) -> None:
    if not isinstance(node, RealNode):
        pytest.skip("these tests are about our own node, and kind is used here")


@pytest.fixture(scope="module")
def namespace(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace that enforces `restricted`, with a server and a client in it."""
    name = f"test-{uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o755)
    (folder / "index.html").write_text(WORD)
    node.kubectl("create", "namespace", name)
    node.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    node.volume("data", folder, namespace=name)
    serve = ("httpd", "-f", "-v", "-p", str(PORT), "-h", "/data")
    items = [SERVICE, pod("server", *serve), pod("client", "sleep", "infinity")]
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    # Not before its account is there.
    eventually(lambda: node.kubectl("-n", name, "get", "sa/default", "-o=name"))
    node.kubectl("-n", name, "apply", "-f", "-", stdin=objects)
    node.kubectl("-n", name, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield name
    node.kubectl("delete", "namespace", name, "--wait=false")


def fetch(node: Node, namespace: str, source: str, address: str) -> str:
    """What a pod gets from an address."""
    command = ("/bin/busybox", "timeout", "10", "wget", "-q", "-O", "-", f"http://{address}/")
    return node.kubectl("-n", namespace, "exec", source, "--", *command)


def resolve(node: Node, namespace: str, name: str) -> list[str]:
    """What a pod is told of a name; the last address is the answer, the first its server's."""
    said = node.kubectl("-n", namespace, "exec", "client", "--", "nslookup", name, check=False)
    return [line.split()[1] for line in said.splitlines() if line.startswith("Address")]


def address(node: Node, namespace: str, what: str, path: str) -> str:
    """A field of an object."""
    return node.kubectl("-n", namespace, "get", what, f"-o=jsonpath={{{path}}}")


@pytest.mark.parametrize("source", ["client", "server"])
def test_a_pod_finds_a_service_by_its_name(node: Node, namespace: str, source: str) -> None:
    for name in ("web", f"web.{namespace}", f"web.{namespace}.svc.cluster.local"):
        assert fetch(node, namespace, source, name) == WORD


def test_a_name_outside_does_not_exist(node: Node, namespace: str) -> None:
    assert len(resolve(node, namespace, "example.com")) == 1


def test_the_api_server_is_a_service(node: Node, namespace: str) -> None:
    found = resolve(node, namespace, "kubernetes.default.svc.cluster.local")[-1]
    assert found == address(node, "default", "svc/kubernetes", ".spec.clusterIP")
    done = node.inside(["curl", "--silent", "--insecure", f"https://{found}/version"])
    assert json.loads(done.stdout)["gitVersion"] in node.kubectl("version")


def test_outside_only_the_api_server_answers(node: Node, namespace: str) -> None:
    direct = address(node, namespace, "pod/server", ".status.podIP")
    service = address(node, namespace, "svc/web", ".spec.clusterIP")
    assert node.inside(["curl", "--silent", f"http://{direct}:{PORT}/"]).stdout == WORD
    assert node.inside(["curl", "--silent", f"http://{service}/"]).stdout == WORD
    for target in (f"{direct}:{PORT}", service):
        done = node.outside(["curl", "--silent", "--max-time", "5", f"http://{target}/"])
        assert done.returncode != 0, target
    proxy = f"/api/v1/namespaces/{namespace}/pods/http:server:{PORT}/proxy/"
    assert node.kubectl("get", f"--raw={proxy}") == WORD


def test_logs_and_exec(node: Node, namespace: str) -> None:
    fetch(node, namespace, "client", "web")
    assert "response:200" in node.kubectl("-n", namespace, "logs", "server")
    user = ("exec", "client", "--", "/bin/busybox", "id", "-u")
    assert node.kubectl("-n", namespace, *user) == "65532\n"


def test_the_restricted_profile_is_enforced(node: Node, namespace: str) -> None:
    manifest = json.dumps(pod("free", "sleep", "infinity", restricted=False))
    with pytest.raises(KubectlFailed, match="violates PodSecurity"):
        node.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)


def test_the_kubelet_is_a_node_and_no_administrator(node: Node, namespace: str) -> None:
    name = "system:node:node"
    asked = ("auth", "can-i", "list", "secrets", f"--as={name}", "--as-group=system:nodes")
    assert node.kubectl(*asked, check=False).startswith("no")
    with node.audit_log.open() as lines:
        users = {json.loads(line)["user"]["username"] for line in lines}
    assert {name, "system:kube-proxy", "coredns"} <= users


def test_the_kubelet_knows_its_disk(node: Node, namespace: str) -> None:
    def summary() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            node.kubectl("get", "--raw=/api/v1/nodes/node/proxy/stats/summary")
        )["node"]
        return found

    eventually(
        summary,
        until=lambda seen: (
            seen["fs"].get("capacityBytes", 0) > 0
            and seen["runtime"]["imageFs"].get("capacityBytes", 0) > 0
        ),
        timeout=60,
        what="the size of the node's disk",
    )
    assert "failed to synchronize" not in node.logs("kubelet")


def test_a_broken_archive_is_refused(node: Node, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_text("no archive")
    with pytest.raises(DevClusterError, match=r"ctr .*import .*broken\.tar"):
        node.load_image(broken)


@pytest.mark.parametrize(
    ("flags", "reaches"),
    [pytest.param([], False, id="outside"), pytest.param(["--inside"], True, id="inside")],
)
def test_a_command_with_a_node_of_its_own(flags: list[str], reaches: bool) -> None:
    script = "kubectl get nodes -o=name; curl -sk https://10.96.0.1/livez; exit 7"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modelworker_devcluster", "node"),
            *flags,
            "--",
            "sh",
            "-c",
            script,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == ("node/node\nok" if reaches else "node/node\n")


START = """
import sys
from modelworker_devcluster.node import RealNode
node = RealNode()
node.start()
node.kubectl("run", "one", "--image=localhost/modelworker-node:1", "--image-pull-policy=Never")
node.kubectl("wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
print(node.directory, flush=True)
sys.stdin.read()
node.stop()
"""


def machine() -> dict[str, object]:
    """The parts of this machine that a node must not touch."""
    run = subprocess.check_output
    return {
        "links": sorted(Path("/sys/class/net").iterdir()),
        "filter": run(["nft", "list", "ruleset"], text=True),
        "routes": run(["ip", "route"], text=True),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "run": sorted(Path("/run").iterdir()),
    }


def traces(folder: Path, cgroup: str) -> list[str]:
    """What this machine shows of one node, besides its processes."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found = [line for line in mounts if str(folder) in line]
    found += map(str, Path("/sys/fs/cgroup").glob(f"**/{cgroup}"))
    return [*found, str(folder)] if folder.exists() else found


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_is_left(node: Node, how: str) -> None:
    before = machine()
    child = subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    kubelet = json.loads((folder / "node" / "kubelet.json").read_text())
    cgroup = kubelet["cgroupRoot"].strip("/")
    processes = psutil.Process(child.pid).children(recursive=True)
    assert any("containerd-shim" in one.name() for one in processes)
    *groups, last = traces(folder, cgroup)
    assert groups
    assert last == str(folder)
    # Also while it runs, its mounts are its own.
    assert all(group.startswith("/sys/fs/cgroup/") for group in groups)
    assert machine() == before
    if how == "stop":
        child.stdin.close()
    else:
        child.send_signal(signal.SIGKILL)
    child.wait(60)
    eventually(
        lambda: [one for one in processes if one.is_running()],
        until=lambda left: not left,
        what="an end of its processes",
    )
    eventually(
        lambda: traces(folder, cgroup), until=lambda left: not left, what="an end of its traces"
    )
    assert machine() == before
