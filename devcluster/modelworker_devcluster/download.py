"""The official release downloads, with their checksums verified."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from tqdm import tqdm

from modelworker_devcluster import versions
from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.versions import Binary, Pinned

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Download:
    """Fetches a set of binaries from where their projects publish them."""

    def __init__(
        self, pinned: Pinned, platform: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Prepare; nothing is fetched yet.

        Args:
            pinned: what to fetch.
            platform: for example `linux-amd64`.
            transport: how requests are sent, None for the network.
        """
        self._releases = [release(binary, pinned, platform) for binary in pinned.tools.binaries]
        self._transport = transport
        hosts = dict.fromkeys(httpx.URL(release.url).host for release in self._releases)
        self.label = f"official release downloads ({', '.join(hosts)})"
        self.remedy = f"let this machine reach {' and '.join(f'https://{host}' for host in hosts)}"

    def fill(self, folder: Path, say: Callable[[str], None]) -> None:
        """Put every binary into `folder`.

        Raises:
            SourceFailed: a file cannot be had, or its checksum is wrong.
        """
        with httpx.Client(
            timeout=_TIMEOUT, follow_redirects=True, transport=self._transport
        ) as http:
            try:
                # All checksums first: a host that cannot be reached is known at once.
                files = [(one, _published(http, one)) for one in self._releases]
                for file, checksum in files:
                    say(f"downloading {file.file}")
                    _save(http, file, checksum, folder)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                raise SourceFailed(f"{error.request.url} answered {status}") from error
            except httpx.HTTPError as error:
                raise SourceFailed(f"cannot fetch {error.request.url}: {error}") from error


@dataclass(frozen=True, slots=True)
class Release:
    """Where a project publishes one binary.

    Attributes:
        name: the binary.
        url: the file that has it.
        checksums: the URL of the file with its checksum.
        algorithm: how the checksum is made.
        member: what to take out, if the file is an archive.
    """

    name: str
    url: str
    checksums: str
    algorithm: str
    member: str | None = None

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.url.rpartition("/")[2]


def release(binary: Binary, pinned: Pinned, platform: str) -> Release:
    """Where the release of a binary is.

    Args:
        binary: one of the set.
        pinned: the set.
        platform: for example `linux-amd64`.
    """
    system, _, architecture = platform.partition("-")
    version = pinned.versions[binary.module]
    name = binary.name
    match binary.module:
        case versions.KUBERNETES:
            url = f"https://dl.k8s.io/release/{version}/bin/{system}/{architecture}/{name}"
            return Release(name, url, f"{url}.sha512", "sha512")
        case versions.ETCD:
            base = f"https://github.com/etcd-io/etcd/releases/download/{version}"
            stem = f"etcd-{version}-{platform}"
            url = f"{base}/{stem}.tar.gz"
            return Release(name, url, f"{base}/SHA256SUMS", "sha256", f"{stem}/etcd")
        case versions.HELM:
            url = f"https://get.helm.sh/helm-{version}-{platform}.tar.gz"
            return Release(name, url, f"{url}.sha256sum", "sha256", f"{platform}/helm")
        case _:
            number = version.removeprefix("v")
            base = f"https://github.com/coredns/coredns/releases/download/{version}"
            url = f"{base}/coredns_{number}_{system}_{architecture}.tgz"
            return Release(name, url, f"{url}.sha256", "sha256", "coredns")


def _published(http: httpx.Client, release: Release) -> str:
    """The checksum from a file that has it alone, or has a line `CHECKSUM  FILE` with it."""
    lines = http.get(release.checksums).raise_for_status().text.splitlines()
    for words in map(str.split, lines):
        if len(words) == 1 or words[-1:] == [release.file]:
            return words[0]
    raise SourceFailed(f"{release.checksums} names no release {release.file}")


def _save(http: httpx.Client, file: Release, checksum: str, folder: Path) -> None:
    target = folder / file.name
    fetched = target.with_suffix(".part")
    digest = hashlib.new(file.algorithm)
    with http.stream("GET", file.url) as answer:
        answer.raise_for_status()
        size = int(answer.headers.get("content-length", 0)) or None
        with (
            fetched.open("wb") as opened,
            tqdm(total=size, unit="B", unit_scale=True, desc=file.name, disable=None) as bar,
        ):
            for block in answer.iter_bytes():
                opened.write(block)
                digest.update(block)
                bar.update(len(block))
    if digest.hexdigest() != checksum:
        fetched.unlink()
        raise SourceFailed(
            f"{file.url} has the {file.algorithm} {digest.hexdigest()}, but {checksum} is "
            "published; the file was removed"
        )
    if file.member is None:
        fetched.rename(target)
    else:
        with tarfile.open(fetched) as archive:
            member = archive.extractfile(file.member)
            if member is None:
                raise SourceFailed(f"{file.url} has no {file.member} in it")
            with target.open("wb") as opened:
                shutil.copyfileobj(member, opened)
        fetched.unlink()
    target.chmod(0o755)
