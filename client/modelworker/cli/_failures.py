"""How a command ends: the exit codes, and the errors that are shown as one line."""

from enum import IntEnum
from http import HTTPStatus

from modelworker import _errors


class Code(IntEnum):
    """Exit codes, as docs/cli.md lists them."""

    OK = 0
    FAILED = 1
    """Something is not ready, or a call failed."""
    USAGE = 2
    NO_ACCESS = 3
    """No cluster, or it does not let us in."""
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command with this one line."""

    def __init__(self, message: str, code: Code = Code.FAILED) -> None:
        super().__init__(message)
        self.code = code


class Refused(Failure):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str, what: str) -> None:
        denied = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        super().__init__(
            f"the API server refused: {message}; `kubectl modelworker doctor` lists the rights "
            "that are needed and which of them are missing"
            if denied
            else f"{what}: the API server answered {status}: {message}",
            Code.NO_ACCESS if denied else Code.FAILED,
        )
        self.status = status
        self.said = message

    @property
    def absent(self) -> bool:
        """There is no such thing."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def denied(self) -> bool:
        """The right is missing."""
        return self.code is Code.NO_ACCESS


_NO_ACCESS = (_errors.NoCluster, _errors.ClusterUnavailable, _errors.AccessDenied)


def of_client(error: _errors.ModelWorkerError) -> Failure:
    """The failure that an error of the Python client is."""
    code = Code.FAILED
    if isinstance(error, _NO_ACCESS):
        code = Code.NO_ACCESS
    elif type(error) is _errors.InvalidRequest:
        code = Code.USAGE
    return Failure(one_line(str(error)), code)


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
