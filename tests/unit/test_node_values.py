"""The command lines, configurations and objects of a real node, as values."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelworker_devcluster import components
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import LOOPBACK, Layout, Ports
from modelworker_devcluster.node import cgroups, checks, commands, configs, manifests, pause
from modelworker_devcluster.node.cluster import RealNode
from modelworker_devcluster.node.places import NODE_ADDRESS, PORTS, Places

PLACES = Places(Layout(Path("/d")), cgroup="modelworker-1")


def flags(command: list[str]) -> dict[str, str]:
    """The flags of a command line; the last of each, as its program takes it."""
    pairs = (part.partition("=") for part in command if part.startswith("--"))
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize(
    ("ports", "host", "reconciler"),
    [
        pytest.param(PORTS, NODE_ADDRESS, "lease", id="node"),
        pytest.param(Ports(1, 2, 3, 4, 5), LOOPBACK, "none", id="loopback"),
    ],
)
def test_the_api_server_listens_where_its_clients_are(
    ports: Ports, host: str, reconciler: str
) -> None:
    found = flags(components.api_server(Path("/b"), PLACES.layout, ports))
    assert found["--bind-address"] == found["--advertise-address"] == host
    assert found["--endpoint-reconciler-type"] == reconciler
    assert ports.server == f"https://{host}:{ports.api_server}"


def test_the_api_server_reaches_the_kubelet() -> None:
    found = flags(commands.api_server(Path("/b"), PLACES))
    assert found["--kubelet-client-certificate"] == "/d/pki/kubelet-client.crt"
    assert found["--kubelet-certificate-authority"] == "/d/pki/ca.crt"
    assert found["--authorization-mode"] == "Node,RBAC"


def test_a_command_enters_the_namespaces_of_a_process() -> None:
    assert commands.in_network(7) == ["nsenter", "--net=/proc/7/ns/net", "--"]
    assert commands.in_node(7) == [
        "nsenter",
        "--net=/proc/7/ns/net",
        "--mount=/proc/7/ns/mnt",
        "--pid=/proc/7/ns/pid_for_children",
        "--",
    ]


def test_every_link_is_made_in_a_namespace_of_ours() -> None:
    made = commands.links(7, 8)
    assert {tuple(command[:4]) for command in made} == {
        (*commands.in_network(7), "ip"),
        (*commands.in_network(8), "ip"),
    }
    # The outside machine has no route: it reaches the node's own address alone.
    assert not any("route" in command for command in made if "--net=/proc/8/ns/net" in command)


def test_the_kubelet_is_as_in_production_where_it_matters() -> None:
    found = configs.kubelet(PLACES)
    assert found["authentication"]["anonymous"] == {"enabled": False}
    assert found["authorization"] == {"mode": "Webhook"}
    assert found["readOnlyPort"] == 0
    assert found["cgroupRoot"] == "/modelworker-1"


def test_containerd_takes_the_images_and_plugins_of_the_node() -> None:
    found = configs.containerd(PLACES, Path("/opt/cni/bin"))
    assert f'sandbox_image = "{configs.PAUSE_IMAGE}"' in found
    assert 'bin_dir = "/opt/cni/bin"' in found
    assert 'conf_dir = "/d/node/cni"' in found


def test_a_volume_is_bound_to_its_claim_alone() -> None:
    volume, claim = manifests.volume("data", "team", Path("/models"))["items"]
    assert volume["spec"]["hostPath"] == {"path": "/models", "type": "Directory"}
    assert volume["spec"]["claimRef"] == {"namespace": "team", "name": "data"}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == "team-data"
    assert claim["spec"]["storageClassName"] == ""


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        pytest.param(
            "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nproc /proc proc rw 0 0\n",
            [("/sys/fs/cgroup", 2)],
            id="version-2",
        ),
        pytest.param(
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            [("/sys/fs/cgroup/cpu", 1), ("/sys/fs/cgroup/unified", 2)],
            id="version-1-and-2",
        ),
        pytest.param("", [], id="none"),
    ],
)
def test_hierarchies_are_found(mounts: str, found: list[tuple[str, int]]) -> None:
    expected = [cgroups.Hierarchy(Path(folder), version) for folder, version in found]
    assert cgroups.hierarchies(mounts) == expected


@pytest.mark.parametrize(
    ("platform", "user", "message"),
    [
        pytest.param("darwin", 0, "needs Linux; use a Linux machine, or kind", id="system"),
        pytest.param("linux", 1000, "needs root.*sudo, or use kind", id="user"),
    ],
)
def test_a_machine_that_cannot_have_a_node_is_refused(
    platform: str, user: int, message: str
) -> None:
    with pytest.raises(DevClusterError, match=message):
        checks.check_machine(platform, user)


@pytest.mark.parametrize(
    ("commands_there", "files_there", "packages"),
    [
        pytest.param(True, True, [], id="nothing"),
        pytest.param(True, False, ["busybox-static", "containernetworking-plugins"], id="files"),
        pytest.param(
            False,
            True,
            ["containerd", "runc", "iproute2", "nftables", "mount", "util-linux"],
            id="commands",
        ),
    ],
)
def test_packages_of_what_is_missing(
    commands_there: bool, files_there: bool, packages: list[str]
) -> None:
    found = checks.missing_packages(
        lambda name: f"/bin/{name}" if commands_there else None, lambda _: files_there
    )
    assert found == packages


@pytest.mark.parametrize("folder", ["/var/lib/x", "/run/x", "/var/log/x/y"])
def test_a_folder_that_the_node_cannot_see_is_refused(folder: str) -> None:
    with pytest.raises(DevClusterError, match="set TMPDIR to another folder"):
        checks.check_folder(Path(folder))


def test_the_image_is_an_archive_as_docker_saves_it(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"program")
    file = tmp_path / "image.tar"
    pause.write_archive(file, busybox=busybox, image="localhost/x:1", architecture="arm64")
    with tarfile.open(file) as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        read = {name: member.read() for name, member in files.items() if member is not None}
    manifest = json.loads(read["manifest.json"])
    assert manifest == [
        {"Config": "config.json", "RepoTags": ["localhost/x:1"], "Layers": ["layer.tar"]}
    ]
    assert json.loads(read["config.json"])["architecture"] == "arm64"
    again = tmp_path / "again.tar"
    pause.write_archive(again, busybox=busybox, image="localhost/x:1", architecture="arm64")
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda node: node.kubeconfig, id="kubeconfig"),
        pytest.param(lambda node: node.kubectl("get", "pods"), id="kubectl"),
        pytest.param(lambda node: node.outside(["true"]), id="outside"),
        pytest.param(lambda node: node.logs("kubelet"), id="logs"),
    ],
)
def test_a_node_that_does_not_run_says_so(use: Callable[[RealNode], object]) -> None:
    with pytest.raises(DevClusterError, match="does not run; call `start`"):
        use(RealNode())


def test_stop_before_start_does_nothing() -> None:
    RealNode().stop()
