"""What can go wrong in a pass, as one tree. Every message says the next step."""

import json
from http import HTTPStatus
from typing import Final

_REJECTED: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


class OperatorError(Exception):
    """Base of every error of the operator."""


class InvalidSpec(OperatorError):
    """The object's spec cannot be turned into children; the message names the field."""


class ChildConflict(OperatorError):
    """A child's name is taken by an object that this custom resource does not control."""


class ApplyForbidden(OperatorError):
    """The API server refused a write because the operator lacks the right."""


class ApplyRejected(OperatorError):
    """The API server or an admission policy refused a child as invalid."""


class ClusterUnavailable(OperatorError):
    """The API server did not answer; the pass is repeated later, nothing is concluded."""


class NotLeading(ClusterUnavailable):
    """A write was held back because this process may no longer be the leader."""


class NotFound(OperatorError):
    """The object, or the kind of object, does not exist."""


class NoCredentials(OperatorError):
    """There is no usable kubeconfig, or the API server refuses its credentials."""


class CrdMissing(OperatorError):
    """The API server does not know one of our kinds."""


class LeaseLost(OperatorError):
    """Another process holds the lease; this one must end."""


class TokenRefused(OperatorError):
    """A heartbeat's token is none, or not one for heartbeats."""


class HeartbeatRefused(OperatorError):
    """A heartbeat is not taken; `status` is the status code of the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class CannotListen(OperatorError):
    """An address of the operator's own listeners cannot be used."""


class CannotPublish(OperatorError):
    """The Service that is to lead to the leader is missing or leads elsewhere."""


class KeysUnknown(OperatorError):
    """The API server does not give the keys that workers check their callers' tokens with."""


def error_of_answer(status: int, what: str, data: bytes) -> OperatorError:
    """The error for an answer of the API server that is none of the 2xx."""
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:500].decode(errors="replace") or HTTPStatus(status).phrase
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{what}: {message}")
    if status == HTTPStatus.UNAUTHORIZED:
        return NoCredentials(f"{what}: {message}; renew the operator's credentials")
    if status == HTTPStatus.FORBIDDEN:
        return ApplyForbidden(
            f"{message}; check the operator's Role (kubectl auth can-i --as) and the "
            "namespace's quota and admission policies"
        )
    # A field that its schema does not have: wrong for ever, whatever the code says.
    if status in _REJECTED or "field not declared in schema" in message:
        return ApplyRejected(f"{message}; correct the field that it names")
    return ClusterUnavailable(f"{what}: {status} {message}; the request is repeated")
