"""The keys of the cluster's service-account tokens, for workers to check their callers by."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from modelworker_api import wire
from modelworker_operator.errors import ApplyForbidden, KeysUnknown, NotFound

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
KEYS_PATH: Final = "/openid/v1/jwks"
RENEW_SECONDS: Final = 60.0


class TokenKeys:
    """Issuer and public keys of service-account tokens, as the API server published them last."""

    def __init__(
        self,
        published: Callable[[str], Awaitable[dict[str, Any]]],
        monotonic: Callable[[], float],
    ) -> None:
        self._published = published
        self._monotonic = monotonic
        self._known: wire.Trust | None = None
        self._read = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since they were read last; infinite before the first time."""
        return self._monotonic() - self._read

    async def renew(self) -> None:
        """Read them anew; after a failure those known before stay.

        Raises:
            KeysUnknown: the API server does not publish them, or not to this process.
            OperatorError: it does not answer.
        """
        try:
            discovery = await self._published(DISCOVERY_PATH)
            keys = await self._published(KEYS_PATH)
        except (ApplyForbidden, NotFound) as error:
            raise KeysUnknown(
                f"{error}; workers take no calls with tokens before they have the keys: bind the "
                "ClusterRole system:service-account-issuer-discovery to the operator's service "
                "account, or set --worker-auth none"
            ) from error
        self._known = _trust(discovery, keys)
        self._read = self._monotonic()

    def trust(self, namespaces: Sequence[str]) -> wire.Trust | None:
        """What a worker needs to check tokens from `namespaces`; None as long as it is unknown."""
        if self._known is None:
            return None
        return self._known.model_copy(update={"namespaces": list(namespaces)})


def _trust(discovery: dict[str, Any], keys: dict[str, Any]) -> wire.Trust:
    try:
        trust = wire.Trust.model_validate(
            {"issuer": discovery.get("issuer"), "keys": keys.get("keys"), "namespaces": []}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise KeysUnknown(
            f"what the API server publishes at {DISCOVERY_PATH} and {KEYS_PATH} is no issuer with "
            f"keys: {first['loc'][0]}: {first['msg']}; see its flag --service-account-issuer"
        ) from error
    if not trust.keys:
        raise KeysUnknown(
            f"the API server publishes no key at {KEYS_PATH}; see its flag "
            "--service-account-key-file"
        )
    return trust
