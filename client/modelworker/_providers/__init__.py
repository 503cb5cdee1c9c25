"""Where a model is served, other than on workers: APIs behind their official packages.

A provider is a dialect, which makes request bodies of what callers ask for and refuses what
the API has not, and an API, which sends them by the SDK and words the answers as a worker
does. Everything else, retries included, is the same code as for workers.
"""

import importlib
from typing import TYPE_CHECKING

from modelworker._errors import NotInstalled
from modelworker._providers._dialect import Dialect, WorkerDialect
from modelworker._settings import LMSettings, Settings

if TYPE_CHECKING:
    from modelworker._providers._api import Api
    from modelworker._session import Session


def require(provider: str) -> None:
    """Load a provider's package, which takes a second: not in the event loop of a call.

    Raises:
        NotInstalled: with the command that installs it.
    """
    try:
        importlib.import_module(provider)
    except ImportError as error:
        raise NotInstalled(
            f"provider {provider!r} needs the package {provider}: "
            f"`pip install 'modelworker[{provider}]'` ({error})"
        ) from error


def dialect_of(settings: LMSettings) -> Dialect:
    """How requests to the provider are worded."""
    if settings.provider == "openai":
        from modelworker._providers._openai_dialect import OpenAIDialect  # noqa: PLC0415

        return OpenAIDialect(compatible=settings.base_url is not None)
    if settings.provider == "anthropic":
        from modelworker._providers._anthropic_dialect import AnthropicDialect  # noqa: PLC0415

        return AnthropicDialect()
    return WorkerDialect(settings.adapter)


def session(settings: Settings) -> "Session":
    """The session of a provider: one address, whose answers come through the SDK."""
    # Both import an HTTP library: the first call pays for it, not `import modelworker`.
    from modelworker._providers._api import Address, ApiConnections  # noqa: PLC0415
    from modelworker._session import Session  # noqa: PLC0415

    assert isinstance(settings, LMSettings)  # noqa: S101 - who makes the session knows its kind
    address = Address(settings)
    connections = ApiConnections(settings.provider, lambda: _api_of(settings))
    return Session(settings, endpoints=address, pool=connections)


def _api_of(settings: LMSettings) -> "Api":
    if settings.provider == "openai":
        from modelworker._providers._openai_api import OpenAIApi  # noqa: PLC0415

        return OpenAIApi(settings)
    from modelworker._providers._anthropic_api import AnthropicApi  # noqa: PLC0415

    return AnthropicApi(settings)
