"""The heartbeat route in process, with an API server that is a function."""

import asyncio
import dataclasses
import gzip
import json
from collections.abc import Callable

import httpx
import pytest

from modelworker_api import kube
from modelworker_operator.cluster import Reviewed
from modelworker_operator.errors import ClusterUnavailable
from modelworker_operator.identity import Identities
from modelworker_operator.listener import LONGEST_BODY
from modelworker_operator.store import Key
from tests.operator_listener import OWNER, URL, Fixture, jwt, pod_review


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
        pytest.param(b" " * (LONGEST_BODY + 1), 413, id="long"),
        pytest.param(gzip.compress(b" " * 10_000_000), 400, id="gzip-bomb"),
        pytest.param(b'{"state": "Ready", "state": "Dancing"}', 422, id="twice"),
        pytest.param(b'{"state": "Ready", "running": -1}', 422, id="negative"),
        pytest.param(b'{"state": "Ready", "running": 1e400}', 422, id="endless"),
    ],
)
def test_bodies_that_are_refused(content: bytes, status: int) -> None:
    fixture = Fixture()
    answer = fixture.post(content)
    assert answer.status_code == status, answer.text
    assert len(fixture.registry) == 0


def test_what_it_does_not_know_it_ignores() -> None:
    """A worker of a newer version says more; no clock but the operator's own counts."""
    fixture = Fixture()
    body = {"state": "Ready", "sentAt": "2999-01-01T00:00:00Z", "pod": "other", "later": {"a": [1]}}
    assert fixture.post(json.dumps(body).encode()).status_code == 200
    assert fixture.registry.beats(["uid"], 3)["uid"][1] == 3
    assert len(fixture.registry) == 1


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
