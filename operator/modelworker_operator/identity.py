"""Which pod a heartbeat's token belongs to, as the API server says, remembered for a minute."""

import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from modelworker_operator.cluster import Reviewed
from modelworker_operator.errors import ClusterUnavailable, TokenRefused

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_ACCOUNT: Final = "system:serviceaccount:"

_GOOD_SECONDS: Final = 60.0
_BAD_SECONDS: Final = 5.0
_REMEMBERED: Final = 20_000
_LONGEST_TOKEN: Final = 8192
_MOST_REVIEWS: Final = 64


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The pod that a token is bound to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Verdict:
    pod: PodIdentity | None
    problem: str
    until: float


class Identities:
    """Turns bearer tokens into pods; asks `review` at most once a minute for each token."""

    def __init__(
        self,
        review: Callable[[str, str], Awaitable[Reviewed]],
        *,
        audience: str,
        monotonic: Callable[[], float],
        time: Callable[[], float],
    ) -> None:
        self._review = review
        self._audience = audience
        self._monotonic = monotonic
        self._time = time
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._reviewing = 0

    async def pod_of(self, token: str) -> PodIdentity:
        """The pod that `token` is bound to.

        Raises:
            TokenRefused: it is not a token for heartbeats that is bound to a pod.
            ClusterUnavailable: the API server cannot be asked now.
        """
        if len(token) > _LONGEST_TOKEN or token.count(".") != 2:
            raise TokenRefused("the bearer token is not a service-account token")
        digest = hashlib.sha256(token.encode()).digest()
        verdict = self._verdicts.get(digest)
        if verdict is None or verdict.until <= self._monotonic():
            verdict = self._judge(token, await self._ask(token))
            self._verdicts.pop(digest, None)
            self._verdicts[digest] = verdict
            if len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
        if verdict.pod is None:
            raise TokenRefused(verdict.problem)
        return verdict.pod

    async def _ask(self, token: str) -> Reviewed:
        # A flood of made-up tokens must not become a flood of reviews.
        if self._reviewing >= _MOST_REVIEWS:
            raise ClusterUnavailable("too many tokens are being checked; send it again")
        self._reviewing += 1
        try:
            return await self._review(token, self._audience)
        finally:
            self._reviewing -= 1

    def _judge(self, token: str, reviewed: Reviewed) -> _Verdict:
        def refused(problem: str) -> _Verdict:
            return _Verdict(None, problem, self._monotonic() + _BAD_SECONDS)

        if not reviewed.user or self._audience not in reviewed.audiences:
            return refused(
                reviewed.error or f"the token is not valid for the audience {self._audience}"
            )
        namespace = reviewed.user.removeprefix(_ACCOUNT).partition(":")[0]
        names, uids = reviewed.extra.get(_POD_NAME), reviewed.extra.get(_POD_UID)
        if not reviewed.user.startswith(_ACCOUNT) or not names or not uids:
            return refused("the token is not bound to a pod; use the pod's projected token")
        left = _expiry(token) - self._time()
        until = self._monotonic() + max(0.0, min(_GOOD_SECONDS, left))
        return _Verdict(PodIdentity(namespace, names[0], uids[0]), "", until)


def _expiry(token: str) -> float:
    """The `exp` of a token that the API server has accepted, in seconds since the epoch."""
    payload = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return 0.0
