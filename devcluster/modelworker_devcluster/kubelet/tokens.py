"""Service-account tokens for projected volumes, from the API server's TokenRequest."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelworker_devcluster.kubelet.api import Api, Object

_REFRESH_AT = 0.8


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the time from which a new one should take its place."""

    value: str
    refresh_at: datetime


def refresh_time(issued: datetime, expires: datetime) -> datetime:
    """When a token is renewed: at 80 % of its life."""
    return issued + timedelta(seconds=(expires - issued).total_seconds() * _REFRESH_AT)


async def request_token(api: Api, pod: Object, source: Object, now: datetime) -> Token:
    """A token of the pod's service account that is bound to the pod.

    Args:
        api: the API server.
        pod: it ends with this pod.
        source: the `serviceAccountToken` projection: audience and life time.
        now: the time it is issued.

    Raises:
        ApiError: the API server refused, or the service account does not exist.
    """
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName", "default")
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    audience = source.get("audience")
    answer = await api.create(
        path,
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": source.get("expirationSeconds", 3600),
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        },
    )
    status = answer["status"]
    expires = datetime.fromisoformat(status["expirationTimestamp"])
    return Token(status["token"], refresh_time(now, expires))
