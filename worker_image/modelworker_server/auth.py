"""Who may call a worker, judged by the token that they show: no request, no network, no clock.

A token is a service-account token: a JWT that the cluster's API server signed. The worker
checks it by itself, with the keys that the operator's answers to its heartbeats hold.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

import jwt

from modelworker_api import kube, wire
from modelworker_server.errors import Forbidden, NoTrust, Unauthorized, WorkerError

MAX_TOKEN_BYTES: Final = 8 * 1024
LEEWAY_SECONDS: Final = 10
"""How far the clocks of the API server and of the worker may differ."""
REMEMBER_SECONDS: Final = 60
"""How long a token that was found good is not checked again."""
REMEMBER_REFUSED_SECONDS: Final = 5
REMEMBERED: Final = 4096
"""Verdicts of each kind that are kept: those that were used last."""

_API_KEY: Final = wire.HEADER_API_KEY.encode()
_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)
"""All asymmetric: a public key must never serve as a shared secret."""
_CLAIM: Final = "kubernetes.io"
_EVERY_NAMESPACE: Final = "*"
_REALM: Final = f'Bearer realm="{kube.INFERENCE_AUDIENCE}"'
_NEXT_STEP: Final = (
    "get one with `kubectl create token SERVICEACCOUNT -n NAMESPACE --audience "
    f"{kube.INFERENCE_AUDIENCE}` and send it as `Authorization: Bearer TOKEN`, or as "
    "`X-API-Key: TOKEN` where that header does not get through"
)
_WHY: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.InvalidSignatureError, "its signature is wrong"),
    (jwt.InvalidAlgorithmError, "it is signed with another algorithm than its key is for"),
    (jwt.InvalidIssuerError, "it is of another cluster: its issuer is not this one's"),
    (jwt.InvalidAudienceError, f"its audience is not {kube.INFERENCE_AUDIENCE}"),
)
"""The first class that an error is of decides."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A `wire.Trust` with its keys read."""

    issuer: str
    keys: Mapping[str, jwt.PyJWK]
    namespaces: frozenset[str]

    @classmethod
    def of(cls, trust: wire.Trust) -> Self:
        """Read the keys; those that cannot sign tokens of service accounts are left out."""
        read = {str(data.get("kid")): _key(data) for data in trust.keys if data.get("kid")}
        keys = {kid: key for kid, key in read.items() if key is not None}
        return cls(trust.issuer, keys, frozenset(trust.namespaces))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a token was found to be."""

    refusal: WorkerError | None
    """None: its holder may call."""
    until: float
    """When it is to be checked again, in seconds since the epoch."""


def judge(token: str, trusted: Trusted, now: float) -> Verdict:
    """Check a token.

    Args:
        token: What a caller showed.
        trusted: Whose tokens to take.
        now: Seconds since the epoch.
    """
    try:
        claims = _claims(token, trusted)
        expires = _check_times(claims, now)
        refusal = _check_namespace(claims, trusted.namespaces)
    except _Refused as why:
        return Verdict(_invalid(str(why)), now + REMEMBER_REFUSED_SECONDS)
    if refusal is not None:
        return Verdict(refusal, now + REMEMBER_REFUSED_SECONDS)
    return Verdict(None, min(expires, now + REMEMBER_SECONDS))


class Auth:
    """Judges callers by what the operator said last; remembers its verdicts for a while.

    Args:
        now: Seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._trust: wire.Trust | None = None
        self._trusted: Trusted | None = None
        # Apart, so that no flood of wrong tokens drives out what is known of the good ones.
        self._good = _Recent(REMEMBERED)
        self._refused = _Recent(REMEMBERED)

    def take(self, trust: wire.Trust) -> bool:
        """Judge by this from now on; False if it has no key, and is not taken."""
        if trust == self._trust:
            return True
        trusted = Trusted.of(trust)
        if not trusted.keys:
            _log.warning(
                "the operator named no key that tokens can be checked with; "
                "see that the API server's /openid/v1/jwks has RSA or EC keys"
            )
            return False
        self._trust, self._trusted = trust, trusted
        self._good.clear()
        self._refused.clear()
        return True

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> WorkerError | None:
        """Why the sender of a request with these headers may not call; None if they may."""
        trusted = self._trusted
        if trusted is None:
            return NoTrust(
                "this worker does not know yet whose tokens to take: the answer to its next "
                "heartbeat says so; try again, or another worker"
            )
        token = token_in(headers)
        if not token:
            return Unauthorized(
                f"this worker takes calls with a service-account token alone; {_NEXT_STEP}",
                challenge=_REALM,
            )
        if len(token) > MAX_TOKEN_BYTES:
            return _invalid(f"it has more than {MAX_TOKEN_BYTES} bytes")
        now, digest = self._now(), sha256(token).digest()
        known = self._good.get(digest, now) or self._refused.get(digest, now)
        if known is None:
            known = judge(token.decode("latin-1"), trusted, now)
            (self._good if known.refusal is None else self._refused).put(digest, known)
        return known.refusal


def token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The token of a request, empty if there is none.

    `X-API-Key` goes before `Authorization`, which a proxy may use for itself, and which the
    development routes of an engine have their own token in.
    """
    bearer = b""
    for name, value in headers:
        if name == _API_KEY and (key := value.strip()):
            return key
        if name == b"authorization" and not bearer:
            scheme, _, rest = value.strip().partition(b" ")
            bearer = rest.strip() if scheme.lower() == b"bearer" else b""
    return bearer


class _Recent:
    """Verdicts by their token's digest, at most so many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()

    def get(self, digest: bytes, now: float) -> Verdict | None:
        """The verdict, unless there is none or it is too old."""
        verdict = self._verdicts.get(digest)
        if verdict is None:
            return None
        if verdict.until <= now:
            del self._verdicts[digest]
            return None
        self._verdicts.move_to_end(digest)
        return verdict

    def put(self, digest: bytes, verdict: Verdict) -> None:
        """Keep a verdict, and drop the one that was not used for longest if there are too many."""
        self._verdicts[digest] = verdict
        if len(self._verdicts) > self._size:
            self._verdicts.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them."""
        self._verdicts.clear()


class _Refused(Exception):
    """What is wrong with a token: a clause for the message."""


def _key(data: dict[str, Any]) -> jwt.PyJWK | None:
    try:
        key = jwt.PyJWK(data)
    except Exception as error:  # whatever it is, the other keys are still good
        _log.warning("a key of the API server cannot be read (%s)", type(error).__name__)
        return None
    signs = data.get("use", "sig") == "sig" and key.algorithm_name in _ALGORITHMS
    return key if signs else None


def _claims(token: str, trusted: Trusted) -> dict[str, Any]:
    """What a token says, once its signature, issuer and audience are right."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _Refused("it is no JSON Web Token") from None
    key = trusted.keys.get(kid or "")
    if key is None:
        raise _Refused("it is not signed with a key of this cluster's API server")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            # The key's own, never the token's word.
            algorithms=[key.algorithm_name],
            audience=kube.INFERENCE_AUDIENCE,
            issuer=trusted.issuer,
            options={
                "require": ["exp", "iss", "aud"],
                # By our own clock, below.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.MissingRequiredClaimError as error:
        raise _Refused(f"it has no {error.claim}") from None
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        why = next((why for kind, why in _WHY if isinstance(error, kind)), None)
        raise _Refused(why or "it is damaged") from None
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """The time at which a token ends."""
    expires = _seconds(claims["exp"])
    if expires is None or expires + LEEWAY_SECONDS <= now:
        raise _Refused("it has expired")
    begins = _seconds(claims.get("nbf", 0))
    if begins is None or begins - LEEWAY_SECONDS > now:
        raise _Refused("it is not valid yet: see that the clocks of the nodes are right")
    return expires


def _check_namespace(claims: Mapping[str, Any], allowed: frozenset[str]) -> Forbidden | None:
    about = claims.get(_CLAIM)
    namespace = about.get("namespace") if isinstance(about, dict) else None
    if not namespace or not isinstance(namespace, str):
        raise _Refused("it names no namespace, so it is no service account's")
    if _EVERY_NAMESPACE in allowed or namespace in allowed:
        return None
    return Forbidden(
        f"service accounts of namespace {namespace} may not call this worker; use one of the "
        "worker's own namespace, or have the administrator add yours to the operator's "
        "--worker-auth-namespaces"
    )


def _seconds(value: object) -> float | None:
    """A time of a token; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _invalid(why: str) -> Unauthorized:
    return Unauthorized(
        f"this worker does not take the token: {why}; {_NEXT_STEP}",
        challenge=f'{_REALM}, error="invalid_token"',
    )
