"""How a client was set up: plain values, so that it can be pickled."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from modelworker._affinity import Mode
from modelworker._errors import InvalidRequest
from modelworker._score_inputs import Aggregation, checked_aggregation
from modelworker_api import kube

Provider = Literal["modelworker", "openai", "anthropic"]
PROVIDERS: Final = ("modelworker", "openai", "anthropic")

_OF_MODELWORKERS: Final = (
    "namespace",
    "endpoints",
    "kubeconfig",
    "context",
    "affinity",
    "adapter",
)
"""What says where the workers of a ModelWorker are, and which of them answers how."""
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_LABEL: Final = 63
_BASE_URL: Final = r"https?://[^\s/?#@]+(/[^\s?#]*)?"


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of every client, checked; `kind` is the object that `name` names.

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
    affinity: Mode | None = None

    def where(self) -> str:
        """Where the model is served, for a `repr`."""
        if self.endpoints is None:
            return f"namespace={self.namespace!r}"
        return f"endpoints={list(self.endpoints)}"

    def patience(self) -> float | None:
        """Seconds after which a call that nobody takes ends; None for its whole time."""
        return None

    def __post_init__(self) -> None:
        if self.endpoints is None:
            _label("name", self.name, kube.MAX_NAME_LENGTH)
        else:
            _model_name(self.name)
        self._check_the_rest()

    def _check_the_rest(self) -> None:
        if self.namespace is not None:
            _label("namespace", self.namespace, _MAX_LABEL)
        seconds("timeout", self.timeout)
        seconds("ready_timeout", self.ready_timeout)
        if self.max_in_flight is not None and (
            not isinstance(self.max_in_flight, int) or self.max_in_flight < 1
        ):
            raise InvalidRequest(f"max_in_flight must be 1 or more, not {self.max_in_flight!r}")
        if self.affinity is not None and self.affinity != "prefix":
            raise InvalidRequest(f"affinity must be 'prefix' or None, not {self.affinity!r}")


@dataclass(frozen=True, slots=True)
class LMSettings(Settings):
    """The arguments of `LM` and `AsyncLM`, checked.

    Raises:
        InvalidRequest: for a value that can never work.
    """

    provider: Provider = "modelworker"
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    adapter: str | None = None
    fallback: "LMSettings | None" = None

    def where(self) -> str:
        """Where the model is served, for a `repr`; never with the key."""
        ours = self.provider == "modelworker"
        words = [Settings.where(self) if ours else f"provider={self.provider!r}"]
        given = {"base_url": self.base_url, "adapter": self.adapter}
        words += [f"{name}={value!r}" for name, value in given.items() if value is not None]
        if self.fallback is not None:
            words.append(f"fallback={self.fallback.name!r}")
        return ", ".join(words)

    def patience(self) -> float | None:
        """With a fallback, the time that a first call waits, for all of them."""
        return None if self.fallback is None else self.ready_timeout

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            known = ", ".join(map(repr, PROVIDERS))
            raise InvalidRequest(f"provider must be one of {known}, not {self.provider!r}")
        if self.provider == "modelworker":
            self._check_modelworker()
        else:
            self._check_api()

    def _check_modelworker(self) -> None:
        for name in ("base_url", "api_key"):
            if getattr(self, name) is not None:
                raise InvalidRequest(
                    f"{name} is not for ModelWorkers; give their addresses as endpoints=[...], or "
                    "say which API it is for with provider='openai' or 'anthropic'"
                )
        if self.adapter is not None and (not isinstance(self.adapter, str) or not self.adapter):
            raise InvalidRequest(f"adapter must be an adapter's name, not {self.adapter!r}")
        Settings.__post_init__(self)

    def _check_api(self) -> None:
        _model_name(self.name)
        for name in _OF_MODELWORKERS:
            if getattr(self, name) is not None:
                raise InvalidRequest(
                    f"{name} is for ModelWorkers, and provider is {self.provider!r}; leave one out"
                )
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", str(self.api_key)):
            raise InvalidRequest("api_key must be a text of printable ASCII, without spaces")
        if self.base_url is not None and not re.fullmatch(_BASE_URL, str(self.base_url)):
            raise InvalidRequest(
                "base_url must be like https://host/v1, without a user, not "
                f"{_without_user(self.base_url)!r}"
            )
        self._check_the_rest()


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


def provider_of(provider: Provider | None, base_url: str | None) -> Provider:
    """The provider as given; else OpenAI's protocol at a base URL, and ModelWorkers without."""
    if provider is not None:
        return provider
    return "modelworker" if base_url is None else "openai"


def path(kubeconfig: str | os.PathLike[str] | None) -> str | None:
    """The path as text."""
    return None if kubeconfig is None else os.fspath(kubeconfig)


def _model_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"name must be the name of the served model, not {name!r}")


def _without_user(url: object) -> str:
    """The URL for a message: what stands before an `@` may be a password."""
    return re.sub(r"//[^/]*@", "//...@", str(url))


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
