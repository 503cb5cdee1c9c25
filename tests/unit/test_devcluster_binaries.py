"""The order in which binaries are looked for, and what each way refuses."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from modelworker_devcluster import binaries, versions
from modelworker_devcluster.download import Download, release
from modelworker_devcluster.errors import BinariesNotFound, SourceFailed
from modelworker_devcluster.gobuild import GoBuild
from modelworker_devcluster.versions import Binary, Pinned, ToolSet

NAMES = ("etcd", "kubectl")
KUBECTL = Binary("kubectl", versions.KUBERNETES, f"{versions.KUBERNETES}/cmd/kubectl")
ETCD = Binary("etcd", versions.ETCD, versions.ETCD)
PINNED = Pinned(
    ToolSet("kube", (KUBECTL, ETCD)),
    {versions.KUBERNETES: "v1.37.2", versions.ETCD: "v3.7.3"},
)


class FakeSource:
    """Gives `names`, or fails with `error`."""

    def __init__(self, label: str, *, names: Sequence[str] = NAMES, error: str = "") -> None:
        self.label = label
        self.remedy = f"mend {label}"
        self.calls = 0
        self._names = names
        self._error = error

    def fill(self, folder: Path, say: Callable[[str], None], /) -> None:
        self.calls += 1
        fill(folder, self._names, self.label)
        if self._error:
            raise SourceFailed(self._error)


def fill(folder: Path, names: Sequence[str] = NAMES, content: str = "", mode: int = 0o755) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(content)
        (folder / name).chmod(mode)
    return folder


def find(tmp_path: Path, *sources: FakeSource, folder: Path | None = None) -> Path:
    cache = tmp_path / "cache" / "v1" / "linux-amd64"
    return binaries.find(NAMES, lambda _: None, folder=folder, cache=cache, sources=sources)


def test_the_users_folder_comes_first(tmp_path: Path) -> None:
    source = FakeSource("first")
    fill(tmp_path / "cache" / "v1" / "linux-amd64")
    mine = fill(tmp_path / "mine")
    assert find(tmp_path, source, folder=mine) == mine
    assert source.calls == 0


@pytest.mark.parametrize(
    ("names", "mode", "said"),
    [
        pytest.param((), 0o755, "etcd, kubectl", id="empty"),
        pytest.param(("etcd",), 0o755, "no executable kubectl", id="one-missing"),
        pytest.param(NAMES, 0o644, "etcd, kubectl", id="not-executable"),
    ],
)
def test_an_incomplete_users_folder_is_refused(
    tmp_path: Path, names: Sequence[str], mode: int, said: str
) -> None:
    source = FakeSource("first")
    mine = fill(tmp_path / "mine", names, mode=mode)
    with pytest.raises(BinariesNotFound, match=said) as refused:
        find(tmp_path, source, folder=mine)
    assert "MODELWORKER_KUBE_BINARIES" in str(refused.value)
    assert source.calls == 0


def test_the_cache_comes_before_the_sources(tmp_path: Path) -> None:
    source = FakeSource("first")
    cache = fill(tmp_path / "cache" / "v1" / "linux-amd64")
    assert find(tmp_path, source) == cache
    assert source.calls == 0


def test_the_first_source_that_works_fills_the_cache(tmp_path: Path) -> None:
    fill(tmp_path / "cache" / "v1" / "linux-amd64", ("etcd",), "old")
    sources = [
        FakeSource("refused", error="no network"),
        FakeSource("partial", names=("etcd",)),
        FakeSource("good"),
        FakeSource("later"),
    ]
    found = find(tmp_path, *sources)
    assert {file.name: file.read_text() for file in found.iterdir()} == dict.fromkeys(NAMES, "good")
    assert [source.calls for source in sources] == [1, 1, 1, 0]
    assert find(tmp_path) == found  # and it stays


def test_the_last_message_lists_the_choices_and_what_failed(tmp_path: Path) -> None:
    with pytest.raises(BinariesNotFound) as refused:
        find(
            tmp_path, FakeSource("download", error="no network"), FakeSource("build", error="no go")
        )
    cache = tmp_path / "cache" / "v1" / "linux-amd64"
    assert str(refused.value).splitlines() == [
        "there is no etcd, kubectl to run. Tried, in this order:",
        "  1. MODELWORKER_KUBE_BINARIES: not set",
        f"  2. cache {cache}: has no etcd, kubectl",
        "  3. download: no network",
        "  4. build: no go",
        "Any one of these helps:",
        "  - set MODELWORKER_KUBE_BINARIES to a folder with etcd, kubectl",
        "  - mend download",
        "  - mend build",
    ]
    assert [f.name for f in cache.parent.iterdir()] == ["linux-amd64.lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    remains = fill(tmp_path / "cache" / "v1" / "linux-amd64.part-killed")
    find(tmp_path, FakeSource("good"))
    assert not remains.exists()


def test_two_at_once_fill_the_cache_once(tmp_path: Path) -> None:
    both = threading.Barrier(2)
    entered = threading.Event()

    class Slow(FakeSource):
        def fill(self, folder: Path, say: Callable[[str], None], /) -> None:
            entered.wait(0.2)  # time for the other to come to the lock
            super().fill(folder, say)

    source = Slow("slow")
    found: list[Path] = []

    def look() -> None:
        both.wait()
        found.append(find(tmp_path, source))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.calls == 1
    assert found[0] == found[1]


# Official downloads


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name in ("etcdctl", "etcd"):
            member = tarfile.TarInfo(f"etcd-v3.7.3-linux-amd64/{name}")
            member.size = len(name)
            made.addfile(member, io.BytesIO(name.encode()))
    return buffer.getvalue()


def releases() -> dict[str, bytes]:
    """The files of both projects, by URL."""
    kubectl = "https://dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubectl"
    etcd = "https://github.com/etcd-io/etcd/releases/download/v3.7.3"
    packed = archive()
    sums = f"{'0' * 64}  etcd-v3.7.3-darwin-amd64.zip\n"
    sums += f"{hashlib.sha256(packed).hexdigest()}  etcd-v3.7.3-linux-amd64.tar.gz\n"
    return {
        kubectl: b"kubectl",
        f"{kubectl}.sha512": hashlib.sha512(b"kubectl").hexdigest().encode(),
        f"{etcd}/SHA256SUMS": sums.encode(),
        f"{etcd}/etcd-v3.7.3-linux-amd64.tar.gz": packed,
    }


def download(files: Mapping[str, bytes], asked: list[str] | None = None) -> Download:
    def answer(request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        if asked is not None:
            asked.append(url)
        return httpx.Response(200, content=files[url]) if url in files else httpx.Response(404)

    return Download(PINNED, "linux-amd64", httpx.MockTransport(answer))


def test_downloads_are_verified_unpacked_and_executable(tmp_path: Path) -> None:
    download(releases()).fill(tmp_path, lambda _: None)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "etcd": "etcd",
        "kubectl": "kubectl",
    }
    assert all(file.stat().st_mode & 0o111 for file in tmp_path.iterdir())


@pytest.mark.parametrize("changed", ["kubectl", "etcd-v3.7.3-linux-amd64.tar.gz"])
def test_a_file_with_a_wrong_checksum_is_refused_and_removed(tmp_path: Path, changed: str) -> None:
    files = {url: b"evil" if url.endswith(changed) else body for url, body in releases().items()}
    with pytest.raises(SourceFailed, match=rf"{changed} has the sha.* the file was removed"):
        download(files).fill(tmp_path, lambda _: None)
    assert changed not in {file.name for file in tmp_path.iterdir()}
    assert all(b"evil" not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        pytest.param("kubectl.sha512", "kubectl.sha512 answered 404", id="no-checksum"),
        pytest.param("SHA256SUMS", "SHA256SUMS answered 404", id="no-sums"),
    ],
)
def test_nothing_large_is_fetched_before_all_checksums_are_there(
    tmp_path: Path, missing: str, message: str
) -> None:
    asked: list[str] = []
    files = {url: body for url, body in releases().items() if not url.endswith(missing)}
    with pytest.raises(SourceFailed, match=message):
        download(files, asked).fill(tmp_path, lambda _: None)
    assert all(url.endswith((".sha512", "SHA256SUMS")) for url in asked)


def test_a_platform_without_a_release_is_refused(tmp_path: Path) -> None:
    files = releases()
    sums = next(url for url in files if url.endswith("SHA256SUMS"))
    with pytest.raises(SourceFailed, match=r"names no release etcd-v3.7.3-linux-amd64"):
        download(files | {sums: b"00  other.tar.gz\n"}).fill(tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("tools", "name", "url", "checksums", "member"),
    [
        pytest.param(
            versions.NODE,
            "kubelet",
            "https://dl.k8s.io/release/v1.2.3/bin/linux/arm64/kubelet",
            ".sha512",
            None,
            id="kubelet",
        ),
        pytest.param(
            versions.CHART_TOOL,
            "helm",
            "https://get.helm.sh/helm-v1.2.3-linux-arm64.tar.gz",
            ".sha256sum",
            "linux-arm64/helm",
            id="helm",
        ),
        pytest.param(
            versions.NAME_SERVER,
            "coredns",
            "https://github.com/coredns/coredns/releases/download/v1.2.3/"
            "coredns_1.2.3_linux_arm64.tgz",
            ".sha256",
            "coredns",
            id="coredns",
        ),
    ],
)
def test_where_a_release_is(
    tools: ToolSet, name: str, url: str, checksums: str, member: str | None
) -> None:
    binary = next(one for one in tools.binaries if one.name == name)
    found = release(binary, Pinned(tools, {binary.module: "v1.2.3"}), "linux-arm64")
    assert (found.url, found.checksums, found.member) == (url, f"{url}{checksums}", member)


def test_a_closed_network_is_said(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Name or service not known", request=request)

    closed = Download(PINNED, "linux-amd64", httpx.MockTransport(refuse))
    with pytest.raises(SourceFailed, match=r"cannot fetch https://dl.k8s.io/.*not known"):
        closed.fill(tmp_path, lambda _: None)


# Build with Go


def test_the_build_names_each_binary_and_its_version(tmp_path: Path) -> None:
    commands: list[Sequence[str]] = []
    environments: list[Mapping[str, str]] = []

    def go(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
        assert (folder / "go.mod").is_file()
        commands.append(command)
        environments.append(environment)
        yield "k8s.io/api"

    GoBuild(PINNED, {"A": "1"}, go="/go", run=go).fill(tmp_path, lambda _: None)
    linked = (
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 "
        "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
    )
    build = ["/go", "build", "-mod=readonly", "-v", "-trimpath", "-ldflags", linked, "-o"]
    assert commands == [
        ["/go", "list", "-mod=readonly", "-deps", KUBECTL.package, ETCD.package],
        [*build, f"{tmp_path}/etcd", ETCD.package],
        [*build, f"{tmp_path}/", KUBECTL.package],
    ]
    assert environments[0] == {"A": "1", "CGO_ENABLED": "0", "GOWORK": "off"}


def test_helm_is_told_its_version(tmp_path: Path) -> None:
    commands: list[Sequence[str]] = []

    def go(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
        commands.append(command)
        yield from ()

    pinned = Pinned(versions.CHART_TOOL, {versions.HELM: "v4.3.1"})
    GoBuild(pinned, {}, go="/go", run=go).fill(tmp_path, lambda _: None)
    assert "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1" in commands[-1]


def test_without_go_the_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="no `go` command"):
        GoBuild(PINNED, {"PATH": str(tmp_path)}).fill(tmp_path, lambda _: None)
