"""The heartbeat route in process, with an API server that is a function."""

import asyncio
import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from modelworker_api import kube
from modelworker_operator.cluster import Reviewed
from modelworker_operator.errors import ClusterUnavailable
from modelworker_operator.heartbeats import Registry
from modelworker_operator.identity import Identities
from modelworker_operator.listener import Heartbeats
from modelworker_operator.resources import MODELWORKERS, PODS, REWARDMODELS
from modelworker_operator.store import Key, Store

OWNER = Key(kube.MODELWORKER, "ns", "one")
URL = f"http://operator{kube.HEARTBEAT_PATH}"


def jwt(expires: float = 1e12, name: str = "t") -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires, "jti": name}).encode())
    return f"h.{claims.rstrip(b'=').decode()}.s"


def pod_review(**changes: Any) -> Reviewed:
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


def away() -> Reviewed:
    raise ClusterUnavailable("away")


def test_a_heartbeat_is_kept_and_answered_with_the_interval_of_the_spec() -> None:
    fixture = Fixture()
    answer = fixture.post()
    assert (answer.status_code, answer.json()) == (200, {"interval_seconds": 7.0})
    assert fixture.enqueued == [OWNER]
    assert fixture.registry.beats(["uid"], 3)["uid"][1] == 3
    fixture.post()
    assert fixture.enqueued == [OWNER]  # No news.


def test_a_pod_speaks_for_the_object_of_its_kind_alone() -> None:
    extra = {
        "authentication.kubernetes.io/pod-name": ["judge"],
        "authentication.kubernetes.io/pod-uid": ["j"],
    }
    fixture = Fixture(lambda: pod_review(extra=extra))
    scoring = {"family": "MathShepherd", "recipe_hash": "a", "compared": True}
    answer = fixture.post(json.dumps({"state": "Ready", "scoring": scoring}).encode())
    assert (answer.status_code, answer.json()) == (200, {"interval_seconds": 9.0})
    assert fixture.enqueued == [Key(kube.REWARDMODEL, "ns", "one")]
    assert fixture.registry.beats(["j"], 0)["j"][0].scoring is not None


@pytest.mark.parametrize(
    ("review", "status"),
    [
        pytest.param(lambda: pod_review(user="", error="expired"), 401, id="not-authenticated"),
        pytest.param(lambda: pod_review(audiences=("other",)), 401, id="audience"),
        pytest.param(lambda: pod_review(extra={}), 401, id="bound-to-no-pod"),
        pytest.param(lambda: pod_review(user="alice"), 401, id="no-service-account"),
        pytest.param(lambda: pod_review(user="system:serviceaccount:x:a"), 403, id="namespace"),
        pytest.param(
            lambda: pod_review(
                extra={
                    "authentication.kubernetes.io/pod-name": ["pod"],
                    "authentication.kubernetes.io/pod-uid": ["of-an-earlier-pod"],
                }
            ),
            403,
            id="uid",
        ),
        pytest.param(
            lambda: pod_review(
                extra={
                    "authentication.kubernetes.io/pod-name": ["stranger"],
                    "authentication.kubernetes.io/pod-uid": ["x"],
                }
            ),
            403,
            id="pod-of-no-object",
        ),
        pytest.param(away, 503, id="api-server-away"),
    ],
)
def test_who_is_refused(review: Callable[[], Reviewed], status: int) -> None:
    fixture = Fixture(review)
    answer = fixture.post()
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert (len(fixture.registry), fixture.enqueued) == (0, [])
    assert ("retry-after" in answer.headers) is (status == 503)
    assert ("www-authenticate" in answer.headers) is (status == 401)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer a.b", f"Bearer {'a.' * 5000}"]
)
def test_what_is_no_token_is_not_reviewed(header: str) -> None:
    fixture = Fixture()
    assert fixture.post(Authorization=header).status_code == 401
    assert fixture.reviews == 0


@pytest.mark.parametrize(
    ("token", "review", "later", "reviews"),
    [
        pytest.param(jwt(), pod_review, 59, 1, id="remembered"),
        pytest.param(jwt(), pod_review, 61, 2, id="for-a-minute"),
        pytest.param(jwt(30), pod_review, 31, 2, id="not-beyond-its-end"),
        pytest.param(jwt(), lambda: pod_review(user=""), 4, 1, id="refusal-remembered"),
        pytest.param(jwt(), lambda: pod_review(user=""), 6, 2, id="refusal-for-seconds"),
        pytest.param(jwt(), away, 1, 2, id="no-answer-is-not-remembered"),
    ],
)
def test_how_long_a_review_is_remembered(
    token: str, review: Callable[[], Reviewed], later: float, reviews: int
) -> None:
    fixture = Fixture(review)
    fixture.post(token=token)
    fixture.now = later
    fixture.post(token=token)
    assert fixture.reviews == reviews


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"\xff\xfe", 400, id="no-text"),
        pytest.param(b'{"state": "Ready", "progress": Infinity}', 422, id="infinity"),
        pytest.param(b'{"state": "Ready", "progress": 101}', 422, id="over-100"),
        pytest.param(b'{"state": null}', 422, id="null"),
        pytest.param(b"[" * 4000, 400, id="deep"),
        pytest.param(b" " * 4097, 413, id="long"),
    ],
)
def test_bodies_that_are_refused(content: bytes, status: int) -> None:
    fixture = Fixture()
    answer = fixture.post(content)
    assert answer.status_code == status, answer.text
    assert len(fixture.registry) == 0


def test_one_pod_cannot_flood() -> None:
    fixture = Fixture()
    answers = [fixture.post().status_code for _ in range(12)]
    assert answers == [200] * 10 + [429] * 2
    fixture.now = 1.0
    assert fixture.post().status_code == 200


def test_a_flood_of_made_up_tokens_is_no_flood_of_reviews() -> None:
    async def scenario() -> list[int]:
        fixture = Fixture()
        release = asyncio.Event()

        async def review(_token: str, _audience: str) -> Reviewed:
            await release.wait()
            return pod_review(user="")

        identities = Identities(review, audience="a", monotonic=lambda: 0.0, time=lambda: 0.0)
        app = dataclasses.replace(fixture.listener, identities=identities).app()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:

            async def post(number: int) -> int:
                headers = {"Authorization": f"Bearer {jwt(name=str(number))}"}
                return (await client.post(URL, json={}, headers=headers)).status_code

            posts = [asyncio.create_task(post(number)) for number in range(100)]
            await asyncio.wait(posts, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            release.set()
            return sorted(await asyncio.gather(*posts))

    assert asyncio.run(scenario()) == [401] * 64 + [503] * 36


def test_nothing_else_is_served() -> None:
    async def call() -> list[int]:
        transport = httpx.ASGITransport(Fixture().app)
        async with httpx.AsyncClient(transport=transport) as client:
            return [(await client.get(url)).status_code for url in (URL, "http://operator/")]

    assert asyncio.run(call()) == [405, 404]
