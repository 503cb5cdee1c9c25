"""The official release downloads, with their checksums verified."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from tqdm import tqdm

from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.versions import Versions

_KUBERNETES = "https://dl.k8s.io/release"
_ETCD = "https://github.com/etcd-io/etcd/releases/download"
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Download:
    """Fetches the binaries of Kubernetes and etcd from where their projects publish them."""

    label = "official release downloads (dl.k8s.io, github.com)"
    remedy = "let this machine reach https://dl.k8s.io and https://github.com"

    def __init__(
        self, versions: Versions, platform: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Prepare; nothing is fetched yet.

        Args:
            versions: what to fetch.
            platform: for example `linux-amd64`.
            transport: how requests are sent, None for the network.
        """
        self._versions = versions
        self._system, _, self._architecture = platform.partition("-")
        self._transport = transport

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
                files = [self._file(http, name) for name in self._versions.names]
                for file in files:
                    say(f"downloading {file.url.rpartition('/')[2]}")
                    _save(http, file, folder)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                raise SourceFailed(f"{error.request.url} answered {status}") from error
            except httpx.HTTPError as error:
                raise SourceFailed(f"cannot fetch {error.request.url}: {error}") from error

    def _file(self, http: httpx.Client, name: str) -> "_File":
        if name == "etcd":
            return self._etcd(http)
        version = self._versions.kubernetes
        url = f"{_KUBERNETES}/{version}/bin/{self._system}/{self._architecture}/{name}"
        return _File(name, url, "sha512", _text(http, f"{url}.sha512").strip())

    def _etcd(self, http: httpx.Client) -> "_File":
        version = self._versions.etcd
        stem = f"etcd-{version}-{self._system}-{self._architecture}"
        archive = f"{stem}.tar.gz"
        for line in _text(http, f"{_ETCD}/{version}/SHA256SUMS").splitlines():
            if line.endswith(f" {archive}"):
                url = f"{_ETCD}/{version}/{archive}"
                return _File("etcd", url, "sha256", line.split()[0], member=f"{stem}/etcd")
        raise SourceFailed(f"etcd {version} has no release named {archive}")


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    url: str
    algorithm: str
    checksum: str
    member: str | None = None
    """What to take out, if the file is an archive."""


def _text(http: httpx.Client, url: str) -> str:
    return http.get(url).raise_for_status().text


def _save(http: httpx.Client, file: _File, folder: Path) -> None:
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
    if digest.hexdigest() != file.checksum:
        fetched.unlink()
        raise SourceFailed(
            f"{file.url} has the {file.algorithm} {digest.hexdigest()}, but {file.checksum} is "
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
