"""What can go wrong in a pass, as one tree. Every message says the next step."""

from http import HTTPStatus


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
