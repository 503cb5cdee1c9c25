"""How an LM was set up: plain values, so that it can be pickled."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelworker._errors import InvalidRequest
from modelworker_api import kube

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_LABEL: Final = 63


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `LM` and `AsyncLM`, checked.

    Raises:
        InvalidRequest: for a value that can never work.
    """

    name: str
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


def settings(
    name: str,
    *,
    namespace: str | None,
    endpoints: Sequence[str] | None,
    kubeconfig: str | os.PathLike[str] | None,
    context: str | None,
    timeout: float,
    ready_timeout: float,
    max_in_flight: int | None,
    progress: bool | None,
) -> Settings:
    """The checked form of the arguments of `LM`."""
    return Settings(
        name=name,
        namespace=namespace,
        endpoints=None if endpoints is None else _urls(endpoints),
        kubeconfig=None if kubeconfig is None else os.fspath(kubeconfig),
        context=context,
        timeout=timeout,
        ready_timeout=ready_timeout,
        max_in_flight=max_in_flight,
        progress=progress,
    )


def seconds(name: str, value: object) -> None:
    """Refuse what is no positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InvalidRequest(f"{name} must be a positive number of seconds, not {value!r}")


def _label(what: str, value: object, longest: int) -> None:
    if not isinstance(value, str) or not _DNS_LABEL.fullmatch(value) or len(value) > longest:
        raise InvalidRequest(
            f"{what} must be lower-case letters, digits and '-', at most {longest} characters, "
            f"not {value!r}"
        )


def _urls(endpoints: Sequence[str]) -> tuple[str, ...]:
    if isinstance(endpoints, str) or not endpoints:
        raise InvalidRequest(f"endpoints must be a list of one URL or more, not {endpoints!r}")
    for url in endpoints:
        if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise InvalidRequest(f"each endpoint must be like http://host:port, not {url!r}")
    return tuple(url.rstrip("/").removesuffix("/v1") for url in endpoints)
