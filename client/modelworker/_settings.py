"""How a client was set up: plain values, so that it can be pickled."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from modelworker._affinity import Mode
from modelworker._errors import InvalidRequest
from modelworker._score_inputs import Aggregation, checked_aggregation
from modelworker_api import kube

Provider = Literal["modelworker", "openai", "anthropic"]
PROVIDERS: Final = ("modelworker", "openai", "anthropic")
Access = Literal["auto", "direct", "proxy"]
ACCESSES: Final = ("auto", "direct", "proxy")

ENV_ACCESS: Final = "MODELWORKER_ACCESS"
ENV_SERVICE_ACCOUNT: Final = "MODELWORKER_SERVICE_ACCOUNT"
ENV_TOKEN_FILE: Final = "MODELWORKER_TOKEN_FILE"  # noqa: S105 - the name of a variable

_OF_MODELWORKERS: Final = (
    "namespace",
    "endpoints",
    "kubeconfig",
    "context",
    "affinity",
    "adapter",
    "service_account",
    "access",
)
"""What says where the workers of a ModelWorker are, and which of them answers how."""
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ACCOUNT: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
)
"""A service account, with its namespace before it where that is not the object's."""
_MAX_LABEL: Final = 63
TOKEN: Final = re.compile(r"[!-~]+")
"""What can be a key or a token, in a header."""
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
    api_key: str | None = field(default=None, repr=False)
    service_account: str | None = None
    access: Access | None = None

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
            self._check_endpoints()
        if self.service_account is not None:
            _account("service_account", self.service_account)
        if self.access is not None:
            _access("access", self.access)
        self._check_the_rest()

    def _check_endpoints(self) -> None:
        if self.access == "proxy":
            raise InvalidRequest(
                "access='proxy' finds workers through the Kubernetes API; leave endpoints out, "
                "or call them directly"
            )
        if self.service_account is not None:
            raise InvalidRequest(
                "service_account is for workers found through the Kubernetes API, which issues "
                "its tokens; with endpoints pass a token as api_key"
            )

    def _check_the_rest(self) -> None:
        key = self.api_key
        if key is not None and not (isinstance(key, str) and TOKEN.fullmatch(key)):
            raise InvalidRequest("api_key must be a text of printable ASCII, without spaces")
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
        if self.base_url is not None:
            raise InvalidRequest(
                "base_url is not for ModelWorkers; give their addresses as endpoints=[...], or "
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


def access_of(settings: Settings) -> Access:
    """How workers are reached: as the caller says, else the environment, else `"auto"`.

    Raises:
        InvalidRequest: if the environment says something else.
    """
    return settings.access or _access(ENV_ACCESS, os.environ.get(ENV_ACCESS) or "auto")


def service_account_of(settings: Settings) -> str | None:
    """The service account whose token calls show; None for the default.

    Raises:
        InvalidRequest: if the environment names what can be none.
    """
    if settings.service_account is not None:
        return settings.service_account
    named = os.environ.get(ENV_SERVICE_ACCOUNT)
    return _account(ENV_SERVICE_ACCOUNT, named) if named else None


def token_file() -> Path | None:
    """The file whose token calls show: as the environment says, else where pods mount one."""
    if named := os.environ.get(ENV_TOKEN_FILE):
        return Path(named)
    mounted = Path(kube.INFERENCE_TOKEN_DIR) / kube.INFERENCE_TOKEN_FILE
    return mounted if mounted.is_file() else None


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


def _access(what: str, value: object) -> Access:
    for known in ACCESSES:
        if value == known:
            return known
    raise InvalidRequest(f"{what} must be 'auto', 'direct' or 'proxy', not {value!r}")


def _account(what: str, value: object) -> str:
    if not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        raise InvalidRequest(
            f"{what} must be the name of a service account, NAME or NAMESPACE/NAME, not {value!r}"
        )
    return value


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
