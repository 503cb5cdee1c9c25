"""Who may call a worker: tokens and what is found of them, and what is remembered of it."""

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_api import kube, wire
from modelworker_server.auth import (
    Auth,
    Trusted,
    Verdict,
    judge,
    token_in,
)
from modelworker_server.errors import Forbidden, NoTrust, Unauthorized
from tests.token_support import ISSUER, NOW, Issuer

RSA, EC = Issuer(), Issuer("key-2", "ES256")
OTHER = Issuer("key-1")
"""Another cluster's key with the name of ours."""
TRUST = wire.Trust(issuer=ISSUER, keys=[RSA.jwk, EC.jwk], namespaces=["lab", "team"])


def verdict(token: str, trust: wire.Trust = TRUST, now: float = NOW) -> Verdict:
    return judge(token, Trusted.of(trust), now)


def pieces(header: dict[str, Any], claims: Any = None) -> str:
    """A token without a signature."""

    def part(data: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part({} if claims is None else claims)}.c2ln"


def shared_secret() -> str:
    """The public key misused as the secret of a symmetric algorithm."""
    head, body, _ = pieces({"alg": "HS256", "kid": "key-1"}, jwt.decode(
        RSA.token(), options={"verify_signature": False}
    )).split(".")  # fmt: skip
    secret = json.dumps(RSA.jwk).encode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{head}.{body}".encode(), secret
    )
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("token", "now"),
    [
        pytest.param(RSA.token(), NOW, id="rsa"),
        pytest.param(EC.token(), NOW, id="elliptic-curve"),
        pytest.param(RSA.token(aud=kube.INFERENCE_AUDIENCE), NOW, id="one-audience"),
        pytest.param(RSA.token(aud=["api", kube.INFERENCE_AUDIENCE]), NOW, id="more-audiences"),
        pytest.param(RSA.token(nbf=None, iat=None), NOW, id="only-an-end"),
        pytest.param(RSA.token(), NOW + 3609, id="expired-within-the-leeway"),
        pytest.param(RSA.token(), NOW - 9, id="early-within-the-leeway"),
        pytest.param(RSA.token(about={"namespace": "team"}), NOW, id="team"),
    ],
)
def test_tokens_that_are_taken(token: str, now: float) -> None:
    assert verdict(token, now=now).refusal is None


@pytest.mark.parametrize(
    ("token", "says"),
    [
        pytest.param("", "no JSON Web Token", id="empty"),
        pytest.param("hf_abcdefgh", "no JSON Web Token", id="another-secret"),
        pytest.param("a.b.c", "no JSON Web Token", id="three-parts"),
        pytest.param("ä" * 9, "no JSON Web Token", id="not-ascii"),
        pytest.param("\ud800.\x00.", "no JSON Web Token", id="no-text"),
        pytest.param(
            base64.urlsafe_b64encode(b"[" * 6000).decode() + ".e30.c2ln",
            "no JSON Web Token",
            id="deep",
        ),
        pytest.param(pieces({"alg": "RS256", "kid": ["x"]}), "no JSON Web", id="key-list"),
        pytest.param(pieces({"alg": "none"}), "not signed with a key", id="no-key"),
        pytest.param(pieces({"alg": "none", "kid": "key-1"}), "another algorithm", id="none"),
        pytest.param(shared_secret(), "another algorithm", id="symmetric"),
        pytest.param(pieces({"alg": "RS256", "kid": "key-2"}), "algorithm", id="of-other-key"),
        pytest.param(RSA.sign({}, kid="key-9"), "not signed with a key", id="unknown-key"),
        pytest.param(OTHER.token(), "signature is wrong", id="another-cluster"),
        pytest.param(RSA.token()[:-4] + "AAAA", "signature is wrong", id="tampered"),
        pytest.param(RSA.sign({"exp": NOW + 9}), "it has no", id="nothing-in-it"),
        pytest.param(RSA.token(exp=None), "it has no exp", id="no-end"),
        pytest.param(RSA.token(aud=None), "it has no aud", id="no-audience"),
        pytest.param(RSA.token(iss=None), "it has no iss", id="no-issuer"),
        pytest.param(RSA.token(iss="https://other"), "another cluster", id="issuer"),
        pytest.param(RSA.token(aud=["api"]), "audience is not", id="audience"),
        pytest.param(RSA.token(aud=kube.HEARTBEAT_AUDIENCE), "audience is", id="heartbeat"),
        pytest.param(RSA.token(exp=NOW - 10), "expired", id="expired"),
        pytest.param(RSA.token(exp="later"), "expired", id="end-no-number"),
        pytest.param(RSA.token(exp=True), "expired", id="end-true"),
        pytest.param(RSA.token(exp=10**400), "expired", id="end-without-end"),
        pytest.param(RSA.token(exp=float("inf")), "expired", id="end-infinite"),
        pytest.param(RSA.token(nbf=NOW + 11), "not valid yet", id="too-early"),
        pytest.param(RSA.token(nbf="x"), "not valid yet", id="begin-no-number"),
        pytest.param(RSA.token(about=None), "names no namespace", id="no-claim"),
        pytest.param(RSA.token(about="lab"), "names no", id="claim-text"),
        pytest.param(RSA.token(about={}), "names no", id="no-namespace"),
        pytest.param(RSA.token(about={"namespace": 3}), "names no", id="number"),
    ],
)
def test_tokens_that_are_refused_say_why_and_what_to_do(token: str, says: str) -> None:
    refusal = verdict(token).refusal
    assert isinstance(refusal, Unauthorized)
    assert says in refusal.message
    assert (
        f"kubectl create token SERVICEACCOUNT -n NAMESPACE --audience {kube.INFERENCE_AUDIENCE}"
        in (refusal.message)
    )
    assert refusal.headers() == {
        "www-authenticate": f'Bearer realm="{kube.INFERENCE_AUDIENCE}", error="invalid_token"'
    }
    assert not token or token not in f"{refusal!r} {refusal.body()!r}"


@pytest.mark.parametrize(
    ("allowed", "may"),
    [
        pytest.param(["lab"], True, id="own"),
        pytest.param(["a", "lab"], True, id="one-of-them"),
        pytest.param(["*"], True, id="all"),
        pytest.param(["team"], False, id="another"),
        pytest.param(["la", "lab2"], False, id="alike"),
        pytest.param([], False, id="none"),
    ],
)
def test_the_namespace_decides(allowed: list[str], may: bool) -> None:
    refusal = verdict(RSA.token(), TRUST.model_copy(update={"namespaces": allowed})).refusal
    assert (refusal is None) == may
    if refusal is not None:
        assert isinstance(refusal, Forbidden)
        assert "namespace lab may not" in refusal.message
        assert "--worker-auth-namespaces" in refusal.message


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"}, id="symmetric"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "bad"}, id="hs256"),
        pytest.param({**RSA.jwk, "use": "enc", "kid": "bad"}, id="to-encrypt"),
        pytest.param({**RSA.jwk, "alg": "none", "kid": "bad"}, id="algorithm-none"),
        pytest.param({**RSA.jwk, "alg": "HS256", "kid": "bad"}, id="algorithm-symmetric"),
        pytest.param({**RSA.jwk, "n": 3, "kid": "bad"}, id="damaged"),
        pytest.param({"kty": ["RSA"], "kid": "bad"}, id="no-type"),
        pytest.param({"kid": "bad"}, id="nothing"),
        pytest.param({name: RSA.jwk[name] for name in ("kty", "n", "e")}, id="no-name"),
    ],
)
def test_keys_that_cannot_sign_are_left_out(bad: dict[str, Any]) -> None:
    assert set(Trusted.of(TRUST.model_copy(update={"keys": [bad, EC.jwk]})).keys) == {"key-2"}
    auth = Auth(lambda: NOW)
    assert not auth.take(TRUST.model_copy(update={"keys": [bad]}))
    assert isinstance(auth.refusal([]), NoTrust)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode())).map(".".join),
        st.builds(
            pieces,
            st.dictionaries(
                st.sampled_from(["alg", "kid", "typ", "crit", "b64"]),
                st.sampled_from(["RS256", "ES256", "none", "key-1", "key-2", ["b64"], False, 1]),
            ),
            st.none() | st.integers() | st.lists(st.integers()),
        ),
    )
)
def test_no_text_is_a_token_or_a_bug(token: str) -> None:
    assert isinstance(verdict(token).refusal, Unauthorized)


# --- where the token is --------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        pytest.param([], b"", id="none"),
        pytest.param([(b"authorization", b"Bearer abc")], b"abc", id="bearer"),
        pytest.param([(b"authorization", b" bEARER   abc ")], b"abc", id="spaces-and-case"),
        pytest.param([(b"authorization", b"Basic abc")], b"", id="basic"),
        pytest.param([(b"authorization", b"abc")], b"", id="no-scheme"),
        pytest.param([(b"authorization", b"Bearer")], b"", id="no-token"),
        pytest.param([(b"x-api-key", b"abc")], b"abc", id="api-key"),
        pytest.param([(b"x-api-key", b" "), (b"authorization", b"Bearer b")], b"b", id="blank"),
        pytest.param([(b"authorization", b"Bearer b"), (b"x-api-key", b"a")], b"a", id="both"),
        pytest.param([(b"cookie", b"token=abc")], b"", id="cookie"),
    ],
)
def test_where_the_token_is(headers: list[tuple[bytes, bytes]], token: bytes) -> None:
    assert token_in(headers) == token
