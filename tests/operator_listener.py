"""The heartbeat listener with everything around it, in process."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from modelworker_api import kube, wire
from modelworker_operator.cluster import Reviewed
from modelworker_operator.heartbeats import Registry
from modelworker_operator.identity import Identities
from modelworker_operator.listener import Heartbeats
from modelworker_operator.resources import MODELWORKERS, PODS, REWARDMODELS
from modelworker_operator.spec import WorkerSpec
from modelworker_operator.store import Key, Store

OWNER = Key(kube.MODELWORKER, "ns", "one")
URL = f"http://operator{kube.HEARTBEAT_PATH}"


def jwt(expires: float = 1e12, name: str = "t") -> str:
    """What looks like a token that expires then."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires, "jti": name}).encode())
    return f"h.{claims.rstrip(b'=').decode()}.s"


def pod_review(**changes: Any) -> Reviewed:
    """A review of the token of ns/pod, with fields replaced."""
    fields: dict[str, Any] = {
        "user": "system:serviceaccount:ns:default",
        "audiences": (kube.HEARTBEAT_AUDIENCE,),
        "extra": {
            "authentication.kubernetes.io/pod-name": ["pod"],
            "authentication.kubernetes.io/pod-uid": ["uid"],
        },
        "error": "",
    }
    return Reviewed(**{**fields, **changes})


@dataclass
class Fixture:
    """The listener with everything around it."""

    review: Callable[[], Reviewed] = pod_review
    reviews: int = 0
    now: float = 0.0
    spec: dict[str, Any] = field(default_factory=dict)
    trust: Callable[[str, WorkerSpec], wire.Trust | None] = lambda *_: None
    registry: Registry = field(default_factory=Registry)
    enqueued: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        store = Store()
        store.put(
            MODELWORKERS,
            {
                "metadata": {"name": "one", "namespace": "ns", "uid": "o", "resourceVersion": "1"},
                "spec": {
                    "model": {"source": {"hostPath": {"path": "/m"}}},
                    "heartbeat": {"intervalSeconds": 7, "staleAfterSeconds": 30},
                    **self.spec,
                },
            },
        )
        labels = {kube.LABEL_KIND: "ModelWorker", kube.LABEL_NAME: "one"}
        meta = {"namespace": "ns", "resourceVersion": "1"}
        store.put(PODS, {"metadata": {"name": "pod", "uid": "uid", "labels": labels, **meta}})
        store.put(PODS, {"metadata": {"name": "stranger", "uid": "x", **meta}})
        store.put(
            REWARDMODELS,
            {
                "metadata": {"name": "one", "namespace": "ns", "uid": "r", "resourceVersion": "1"},
                "spec": {
                    "model": {"source": {"hostPath": {"path": "/m"}}},
                    "scoring": {"type": "Process"},
                    "heartbeat": {"intervalSeconds": 9, "staleAfterSeconds": 30},
                },
            },
        )
        labels = {kube.LABEL_KIND: "RewardModel", kube.LABEL_NAME: "one"}
        store.put(PODS, {"metadata": {"name": "judge", "uid": "j", "labels": labels, **meta}})
        self.listener = Heartbeats(
            store=store,
            registry=self.registry,
            identities=Identities(
                self._review,
                audience=kube.HEARTBEAT_AUDIENCE,
                monotonic=lambda: self.now,
                time=lambda: self.now,
            ),
            enqueue=self.enqueued.append,
            monotonic=lambda: self.now,
            trust=self.trust,
        )
        self.app = self.listener.app()

    async def _review(self, token: str, audience: str) -> Reviewed:
        self.reviews += 1
        return self.review()

    def post(
        self, content: bytes = b'{"state": "Ready"}', token: str | None = None, **headers: str
    ) -> httpx.Response:
        """The answer to one heartbeat."""

        async def call() -> httpx.Response:
            sent = {"Authorization": f"Bearer {token or jwt()}", **headers}
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.post(URL, content=content, headers=sent)

        return asyncio.run(call())
