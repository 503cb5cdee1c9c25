"""Events about pods, as `kubectl describe` shows them."""

import logging
from collections.abc import Callable
from datetime import datetime

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Api, ApiError, Object
from modelworker_devcluster.kubelet.status import timestamp

_log = logging.getLogger(__name__)


class Events:
    """Records Events, each once as long as nothing else is said with its reason."""

    def __init__(self, api: Api, node_name: str, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._node_name = node_name
        self._clock = clock
        self._said: dict[tuple[str, str, str], str] = {}

    async def warn(self, subject: Object, reason: str, message: str, container: str = "") -> None:
        """Record a warning about an object, or one container of it. A failure is only logged."""
        metadata = subject["metadata"]
        key = (metadata["uid"], container, reason)
        if self._said.get(key) == message:
            return
        self._said[key] = message
        now = timestamp(self._clock())
        reference = {
            "apiVersion": "v1",
            "kind": subject.get("kind", "Pod"),
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        if container:
            reference["fieldPath"] = f"spec.containers{{{container}}}"
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "type": "Warning",
            "reason": reason,
            "message": message[:1024],
            "involvedObject": reference,
            "source": {"component": names.USER_AGENT, "host": self._node_name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)
        except ApiError as error:
            _log.warning("event %s of pod %s is lost: %s", reason, metadata["name"], error)

    def forget(self, subject: Object) -> None:
        """Drop what is remembered about an object that is gone."""
        uid = subject["metadata"]["uid"]
        self._said = {key: said for key, said in self._said.items() if key[0] != uid}
