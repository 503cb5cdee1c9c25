"""The keys that workers check their callers by: how they are read, and who is told of them."""

import asyncio
from typing import Any, Final

import pytest

from modelworker_api import wire
from modelworker_operator.config import Config
from modelworker_operator.errors import (
    ApplyForbidden,
    ClusterUnavailable,
    KeysUnknown,
    NotFound,
    OperatorError,
)
from modelworker_operator.policy import callers, takes_tokens
from modelworker_operator.spec import WorkerSpec
from modelworker_operator.trust import DISCOVERY_PATH, KEYS_PATH, TokenKeys
from tests.operator_listener import Fixture

KEY: Final = {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"}
GOOD: Final = {
    DISCOVERY_PATH: {"issuer": "https://kubernetes.default.svc", "jwks_uri": "https://elsewhere"},
    KEYS_PATH: {"keys": [KEY]},
}


class Api:
    """Publishes documents, or raises what is put in place of one."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = dict(GOOD)
        self.now = 100.0
        self.keys = TokenKeys(self.published, lambda: self.now)

    async def published(self, path: str) -> dict[str, Any]:
        document = self.documents[path]
        if isinstance(document, OperatorError):
            raise document
        found: dict[str, Any] = document
        return found


def test_what_is_published_is_handed_on_with_the_namespaces() -> None:
    api = Api()
    assert api.keys.trust(["ns"]) is None
    assert api.keys.age == float("inf")
    asyncio.run(api.keys.renew())
    api.now += 7
    assert api.keys.age == 7
    assert api.keys.trust(["a", "b"]) == wire.Trust(
        issuer="https://kubernetes.default.svc", keys=[KEY], namespaces=["a", "b"]
    )


@pytest.mark.parametrize(
    ("documents", "error", "said"),
    [
        pytest.param(
            {KEYS_PATH: ApplyForbidden('cannot get path "/openid/v1/jwks"')},
            KeysUnknown,
            "bind the ClusterRole system:service-account-issuer-discovery",
            id="forbidden",
        ),
        pytest.param(
            {DISCOVERY_PATH: NotFound("no such path")},
            KeysUnknown,
            "or set --worker-auth none",
            id="not-published",
        ),
        pytest.param(
            {KEYS_PATH: ClusterUnavailable("away")}, ClusterUnavailable, "away", id="away"
        ),
        pytest.param({DISCOVERY_PATH: {}}, KeysUnknown, "issuer: Input should be", id="no-issuer"),
        pytest.param({KEYS_PATH: {}}, KeysUnknown, "keys: Input should be a valid list", id="list"),
        pytest.param({KEYS_PATH: {"keys": []}}, KeysUnknown, "publishes no key", id="no-key"),
        pytest.param({KEYS_PATH: {"keys": ["x"]}}, KeysUnknown, "keys: Input", id="no-web-key"),
    ],
)
def test_after_a_failure_the_known_keys_stay(
    documents: dict[str, Any], error: type[OperatorError], said: str
) -> None:
    api = Api()
    asyncio.run(api.keys.renew())
    known = api.keys.trust(["ns"])
    api.documents |= documents
    api.now += 60
    with pytest.raises(error) as failed:
        asyncio.run(api.keys.renew())
    assert said in str(failed.value)
    assert api.keys.trust(["ns"]) == known
    assert api.keys.age == 60


@pytest.mark.parametrize(
    ("spec", "settings", "namespaces"),
    [
        pytest.param({}, {}, ["ns"], id="default"),
        pytest.param({}, {"worker_auth_namespaces": "search"}, ["ns", "search"], id="others-too"),
        pytest.param({"auth": {"mode": "None"}}, {}, None, id="open"),
        pytest.param({}, {"worker_auth": "none"}, None, id="open-by-default"),
        pytest.param({"auth": {"mode": "Token"}}, {"worker_auth": "none"}, ["ns"], id="token"),
    ],
)
def test_workers_that_take_tokens_are_told_whose(
    spec: dict[str, Any], settings: dict[str, Any], namespaces: list[str] | None
) -> None:
    api, config = Api(), Config(namespace="system", **settings)

    def trust(namespace: str, of: WorkerSpec) -> wire.Trust | None:
        return api.keys.trust(callers(namespace, config)) if takes_tokens(of, config) else None

    fixture = Fixture(spec=spec, trust=trust)
    before = fixture.post().json()
    asyncio.run(api.keys.renew())
    after = fixture.post().json()
    assert "trust" not in before
    told = {"issuer": "https://kubernetes.default.svc", "keys": [KEY], "namespaces": namespaces}
    assert after.get("trust") == (told if namespaces else None)
