"""The one image that a node needs before any other, made without a registry."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

_TOOLS = ("httpd", "nslookup", "sh", "sleep", "wget")


def write_archive(file: Path, *, busybox: Path, image: str, architecture: str) -> None:
    """Write an image that sleeps, and has a shell and a few tools, as `docker save` would.

    Args:
        file: the archive to write.
        busybox: a statically linked busybox.
        image: the image's reference.
        architecture: for example `amd64`.
    """
    layer = _tar({"bin/busybox": busybox.read_bytes()}, {f"bin/{n}": "busybox" for n in _TOOLS})
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep"], "Cmd": ["infinity"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
    }
    file.write_bytes(_tar(files, {}))


def _tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()
