"""An issuer of service-account tokens for tests, as the API server is one."""

import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from modelworker_api import kube, wire

ISSUER = "https://kubernetes.default.svc"
NOW = 1_700_000_000
"""The time at which `Issuer.token` gives one, for an hour."""
ABOUT = {"namespace": "lab", "serviceaccount": {"name": "runner", "uid": "0000"}}


@dataclass
class Issuer:
    """Signs tokens with one key."""

    kid: str = "key-1"
    algorithm: str = "RS256"
    key: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.algorithm.startswith("ES"):
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as the API server publishes it."""
        kind = ECAlgorithm if self.algorithm.startswith("ES") else RSAAlgorithm
        data = json.loads(kind.to_jwk(self.key.public_key()))
        return {
            **{name: data[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in data},
            "use": "sig",
            "kid": self.kid,
            "alg": self.algorithm,
        }

    def trust(self, *namespaces: str) -> wire.Trust:
        """Trust in this issuer's tokens of these namespaces, `lab` if none is named."""
        return wire.Trust(issuer=ISSUER, keys=[self.jwk], namespaces=list(namespaces or ("lab",)))

    def token(self, *, now: float = NOW, about: Any = ABOUT, **changes: Any) -> str:
        """A token of service account `runner` of `lab`; a claim that is None is left out.

        `about` is what the API server says of the account, in a claim of its own.
        """
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": [kube.INFERENCE_AUDIENCE],
            "sub": "system:serviceaccount:lab:runner",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + 3600,
            "kubernetes.io": about,
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return self.sign(kept)

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token with just these claims, and more or other fields in its header."""
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": self.kid, **header})
