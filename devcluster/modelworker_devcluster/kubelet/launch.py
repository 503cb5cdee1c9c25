"""All that is settled before a container starts: image, environment, paths, command."""

import fnmatch
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelworker_devcluster.kubelet.api import Api, NotFound, Object
from modelworker_devcluster.kubelet.context import PodContext
from modelworker_devcluster.kubelet.environment import (
    ConfigError,
    Mount,
    Sources,
    command_line,
    references,
    rewrite,
    search_path,
    variables,
)
from modelworker_devcluster.kubelet.probes import Target
from modelworker_devcluster.kubelet.process import Command
from modelworker_devcluster.kubelet.volume_data import MountError, decoded

_MESSAGE_BYTES = 4096
_LOG_BYTES = 2048
_LOG_LINES = 80


class ImageError(Exception):
    """The image does not exist here; the message says which do."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A container ready to start.

    Attributes:
        target: its command and surroundings.
        log: what it writes.
        previous_log: what the run before it wrote.
        pid_file: holds the process id of its command while that runs.
        message_file: where it can leave its last words.
        message_from_log: whether the log's end takes their place after a failure.
    """

    target: Target
    log: Path
    previous_log: Path
    pid_file: Path
    message_file: Path
    message_from_log: bool

    def clean(self) -> None:
        """Make way for a new run: keep the log of the one before, forget its last words."""
        if self.log.exists():
            self.log.replace(self.previous_log)
        self.message_file.write_bytes(b"")

    def last_words(self, exit_code: int) -> str:
        """The termination message: the last 4096 bytes, or 2048 bytes and 80 lines of the log."""
        message = _tail(self.message_file, _MESSAGE_BYTES)
        if not message and self.message_from_log and exit_code != 0:
            lines = _tail(self.log, _LOG_BYTES).splitlines(keepends=True)
            message = b"".join(lines[-_LOG_LINES:])
        return message.decode(errors="replace")


async def prepare(context: PodContext, name: str) -> Launch:
    """Settle everything about a container.

    Raises:
        ImageError: its image does not exist here.
        ConfigError: something it needs does not exist (yet), or it has no command.
        ApiError: the API server did not answer.
    """
    container = context.container(name)
    _check_image(container, context.node.settings.images)
    if not container.get("command"):
        raise ConfigError(
            "no command specified: devcluster has no images and so no entry points; "
            f"set `command` in container {name}"
        )
    namespace = context.pod["metadata"]["namespace"]
    config_maps, secrets = references(container)
    api = context.node.api
    sources = Sources(
        config_maps=await _read(api, namespace, "configmap", config_maps),
        secrets=await _read(api, namespace, "secret", secrets),
    )
    message_file = context.folder / f"{name}.termination"
    try:
        mounts = context.volumes.mounts(container)
    except MountError as error:
        raise ConfigError(str(error)) from error
    mounts.append(Mount(container["terminationMessagePath"], message_file))
    defined = variables(context.facts, container, sources)
    # Everything is expanded before anything is rewritten: a rewritten path could
    # begin with a mount path itself.
    argv = [rewrite(word, mounts) for word in command_line(container, defined)]
    env = _base_environment(context, name)
    env |= {key: rewrite(value, mounts) for key, value in defined.items()}
    given = container.get("workingDir")
    folder = Path(rewrite(given, mounts) if given else env["HOME"])
    target = Target(
        address=context.facts.pod_ip,
        ports={
            port["name"]: port["containerPort"]
            for port in container.get("ports", [])
            if "name" in port
        },
        command=Command(argv, env, folder),
        mounts=mounts,
        pid_file=context.folder / f"{name}.exec.pid",
    )
    return Launch(
        target=target,
        log=context.folder / f"{name}.log",
        previous_log=context.folder / f"{name}.previous.log",
        pid_file=context.folder / f"{name}.pid",
        message_file=message_file,
        message_from_log=container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
    )


def _tail(path: Path, limit: int) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - limit))
        return file.read(limit)


def _check_image(container: Object, patterns: tuple[str, ...]) -> None:
    image = container["image"]
    if not any(fnmatch.fnmatchcase(image, pattern) for pattern in patterns):
        known = ", ".join(patterns)
        raise ImageError(
            f'failed to pull image "{image}": devcluster pulls no images; '
            f"those that match {known} stand for the programs of this machine"
        )


def _base_environment(context: PodContext, name: str) -> dict[str, str]:
    server = urlsplit(context.node.api.server)
    metadata = context.pod["metadata"]
    return {
        "PATH": search_path(Path(sys.executable)),
        "HOME": str(context.folder / "home"),
        "TMPDIR": str(context.temporary),
        "LANG": "C.UTF-8",
        "HOSTNAME": context.pod["spec"].get("hostname") or metadata["name"],
        "KUBERNETES_SERVICE_HOST": server.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(server.port or 443),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, context.gpus.get(name, ()))),
    }


async def _read(
    api: Api, namespace: str, kind: str, wanted: Iterable[str]
) -> dict[str, dict[str, str]]:
    result = {}
    for name in wanted:
        try:
            found = await api.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}")
        except NotFound:
            continue
        # Variables come from text alone, not from a ConfigMap's binaryData.
        data = decoded(kind, {"data": found.get("data", {})})
        result[name] = {key: value.decode(errors="replace") for key, value in data.items()}
    return result
