"""The volumes of one pod: folders, filled and kept up to date."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from modelworker_devcluster.kubelet.api import Api, ApiError, NotFound, Object
from modelworker_devcluster.kubelet.environment import ConfigError, Facts, Mount
from modelworker_devcluster.kubelet.tokens import Token, request_token
from modelworker_devcluster.kubelet.volume_data import (
    File,
    MountError,
    decoded,
    downward_files,
    key_files,
)

# Libraries open shared memory by this path whatever they are told: it is the machine's own.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - by its name in Linux
_REFRESH_SECONDS = 60.0
_DEFAULT_MODE = 0o644
_FILLED = ("configMap", "secret", "downwardAPI", "projected")
_COLLECTIONS = {"configmap": "configmaps", "secret": "secrets"}
_log = logging.getLogger(__name__)


class Volumes:
    """Sets up the volumes of a pod below a folder of its own.

    Attributes:
        facts: of the pod as it is now; set it when the pod object changes.
    """

    def __init__(
        self, api: Api, facts: Facts, directory: Path, clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self.facts = facts
        self._directory = directory
        self._clock = clock
        self._folders: dict[str, Path] = {}
        self._tokens: dict[tuple[str, str], Token] = {}

    @property
    def _specs(self) -> list[Object]:
        return list(self.facts.pod["spec"].get("volumes", []))

    async def set_up(self) -> None:
        """Make every volume's folder and fill it.

        Raises:
            MountError: one cannot be set up now; try again later.
        """
        for spec in self._specs:
            try:
                self._folders[spec["name"]] = await self._set_up(spec)
            except (MountError, ConfigError, ApiError, OSError) as error:
                message = f'MountVolume.SetUp failed for volume "{spec["name"]}" : {error}'
                raise MountError(message) from error

    async def keep_fresh(self) -> None:
        """Renew tokens before they expire and follow changes of ConfigMaps and Secrets."""
        while True:
            now = self._clock()
            left = [(token.refresh_at - now).total_seconds() for token in self._tokens.values()]
            await asyncio.sleep(max(1.0, min([_REFRESH_SECONDS, *left])))
            for spec in self._specs:
                if any(kind in spec for kind in _FILLED):
                    try:
                        await self._set_up(spec)
                    except (MountError, ConfigError, ApiError, OSError) as error:
                        _log.warning("volume %s is not up to date: %s", spec["name"], error)

    def mounts(self, container: Object) -> list[Mount]:
        """Where the paths that a container mounts really are.

        Raises:
            MountError: a `subPath` cannot be made.
        """
        result = []
        in_memory = {
            spec["name"]
            for spec in self._specs
            if spec.get("emptyDir", {}).get("medium") == "Memory"
        }
        for mount in container.get("volumeMounts", []):
            if mount["name"] in in_memory and mount["mountPath"] == _SHARED_MEMORY:
                result.append(Mount(_SHARED_MEMORY, Path(_SHARED_MEMORY)))
                continue
            folder = self._folders[mount["name"]]
            if sub_path := mount.get("subPath"):
                folder /= sub_path
                if not folder.exists():
                    try:
                        folder.mkdir(parents=True)
                    except OSError as error:
                        raise MountError(
                            f"failed to create subPath directory for volumeMount "
                            f'"{mount["name"]}": {error}'
                        ) from error
            result.append(Mount(mount["mountPath"], folder))
        return result

    async def _set_up(self, spec: Object) -> Path:
        if host := spec.get("hostPath"):
            return _host_path(Path(host["path"]), host.get("type", ""))
        if claim := spec.get("persistentVolumeClaim"):
            return await self._claim(claim["claimName"])
        folder = self._directory / str(spec["name"])
        folder.mkdir(parents=True, exist_ok=True)
        if any(kind in spec for kind in _FILLED):
            write_files(folder, await self._files(spec))
        return folder

    async def _files(self, spec: Object) -> list[File]:
        source: Object = next(spec[kind] for kind in _FILLED if kind in spec)
        mode = source.get("defaultMode", _DEFAULT_MODE)
        files: list[File] = []
        for part in source.get("sources", [spec]):
            if config_map := part.get("configMap"):
                files += await self._keys("configmap", config_map["name"], config_map, mode)
            if secret := part.get("secret"):
                name = secret.get("secretName") or secret["name"]
                files += await self._keys("secret", name, secret, mode)
            if downward := part.get("downwardAPI"):
                files += downward_files(downward, self.facts, mode=mode)
            if token := part.get("serviceAccountToken"):
                files.append(await self._token(spec["name"], token, mode))
        return files

    async def _keys(self, kind: str, name: str, source: Object, mode: int) -> Iterable[File]:
        namespace = self.facts.pod["metadata"]["namespace"]
        data: Mapping[str, bytes] = {}
        try:
            found = await self._api.get(
                f"/api/v1/namespaces/{namespace}/{_COLLECTIONS[kind]}/{name}"
            )
            data = decoded(kind, found)
        except NotFound as error:
            if not source.get("optional"):
                raise MountError(f'{kind} "{name}" not found') from error
        return key_files(source, data, name=f'{kind} "{name}"', mode=mode)

    async def _token(self, volume: str, source: Object, mode: int) -> File:
        now = self._clock()
        key = (volume, source["path"])
        token = self._tokens.get(key)
        if token is None or token.refresh_at <= now:
            token = await request_token(self._api, self.facts.pod, source, now)
            self._tokens[key] = token
        return File(source["path"], token.value.encode(), mode)

    async def _claim(self, name: str) -> Path:
        namespace = self.facts.pod["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        try:
            claim = await self._api.get(path)
        except NotFound as error:
            raise MountError(f'persistentvolumeclaim "{name}" not found') from error
        if claim["status"].get("phase") != "Bound":
            raise MountError(f'persistentvolumeclaim "{name}" is not bound')
        volume = await self._api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        if "hostPath" not in volume["spec"]:
            raise MountError(
                f"persistentvolume {volume['metadata']['name']} has no hostPath, "
                "the only kind that devcluster supports"
            )
        host = volume["spec"]["hostPath"]
        return _host_path(Path(host["path"]), host.get("type") or "DirectoryOrCreate")


def write_files(folder: Path, files: Iterable[File]) -> None:
    """Make the files of a volume these and no others, each replaced at one stroke."""
    wanted = {folder / file.path: file for file in files}
    for path, file in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == file.data:
            path.chmod(file.mode)
            continue
        draft = path.with_name(f"..{path.name}")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        draft.touch(mode=0o600)
        draft.write_bytes(file.data)
        draft.chmod(file.mode)
        draft.replace(path)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in wanted:
            path.unlink()


def _host_path(path: Path, kind: str) -> Path:
    checks = {
        "Directory": (path.is_dir, "a directory"),
        "File": (path.is_file, "a file"),
        "Socket": (path.is_socket, "a socket"),
        "CharDevice": (path.is_char_device, "a character device"),
        "BlockDevice": (path.is_block_device, "a block device"),
    }
    match kind:
        case "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        case "FileOrCreate":
            path.touch()
        case "":
            pass
        case _:
            holds, what = checks[kind]
            if not holds():
                raise MountError(f"hostPath type check failed: {path} is not {what}")
    return path
