"""How a client was set up: plain values, so that it can be pickled."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelworker._errors import InvalidRequest
from modelworker._score_inputs import Aggregation, checked_aggregation
from modelworker_api import kube

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_LABEL: Final = 63


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `LM` and `AsyncLM`, checked; `kind` is the object that `name` names.

    Raises:
        InvalidRequest: for a value that can never work.
    """

    name: str
    kind: kube.Kind = kube.MODELWORKER
    namespace: str | None = None
    endpoints: tuple[str, ...] | None = None
    kubeconfig: str | None = None
    context: str | None = None
    timeout: float = 600.0
    ready_timeout: float = 600.0
    max_in_flight: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.endpoints is None:
            _label("name", self.name, kube.MAX_NAME_LENGTH)
        elif not isinstance(self.name, str) or not self.name:
            raise InvalidRequest(f"name must be the name of the served model, not {self.name!r}")
        if self.namespace is not None:
            _label("namespace", self.namespace, _MAX_LABEL)
        seconds("timeout", self.timeout)
        seconds("ready_timeout", self.ready_timeout)
        if self.max_in_flight is not None and (
            not isinstance(self.max_in_flight, int) or self.max_in_flight < 1
        ):
            raise InvalidRequest(f"max_in_flight must be 1 or more, not {self.max_in_flight!r}")


@dataclass(frozen=True, slots=True)
class RewardSettings(Settings):
    """The arguments of `RMCall` and `AsyncRMCall`, checked.

    Raises:
        InvalidRequest: for a value that can never work.
    """

    aggregation: Aggregation | None = None
    allow_mixed_revisions: bool = False

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        checked_aggregation(self.aggregation)


def seconds(name: str, value: object) -> None:
    """Refuse what is no positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InvalidRequest(f"{name} must be a positive number of seconds, not {value!r}")


def path(kubeconfig: str | os.PathLike[str] | None) -> str | None:
    """The path as text."""
    return None if kubeconfig is None else os.fspath(kubeconfig)


def _label(what: str, value: object, longest: int) -> None:
    if not isinstance(value, str) or not _DNS_LABEL.fullmatch(value) or len(value) > longest:
        raise InvalidRequest(
            f"{what} must be lower-case letters, digits and '-', at most {longest} characters, "
            f"not {value!r}"
        )


def urls(endpoints: Sequence[str] | None) -> tuple[str, ...] | None:
    """The base URLs of workers, without a slash or `/v1` at their end.

    Raises:
        InvalidRequest: if there is none, or something is no base URL.
    """
    if endpoints is None:
        return None
    if isinstance(endpoints, str) or not endpoints:
        raise InvalidRequest(f"endpoints must be a list of one URL or more, not {endpoints!r}")
    for url in endpoints:
        if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise InvalidRequest(f"each endpoint must be like http://host:port, not {url!r}")
    return tuple(url.rstrip("/").removesuffix("/v1") for url in endpoints)
