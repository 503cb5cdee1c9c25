"""What every client has in common: its settings, its sessions, its two faces."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from modelworker import _settings, _sync
from modelworker._affinity import Mode
from modelworker._errors import InvalidRequest
from modelworker._score_inputs import Aggregation
from modelworker._sessions import Sessions
from modelworker._settings import Access, LMSettings, Provider, RewardSettings, Settings
from modelworker_api import kube

if TYPE_CHECKING:
    from modelworker._session import Session


class Face(Protocol):
    """Something that can be set up: the core of a client, or its sync face."""

    def _set_up(self, settings: Any) -> None: ...


class LMArguments:
    """The arguments of `LM` and of `AsyncLM`."""

    def __init__(
        self: Face,
        name: str,
        *,
        namespace: str | None = None,
        endpoints: Sequence[str] | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        context: str | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 600.0,
        max_in_flight: int | None = None,
        progress: bool | None = None,
        affinity: Mode | None = None,
        adapter: str | None = None,
        access: Access | None = None,
        service_account: str | None = None,
        api_key: str | None = None,
        provider: Provider | None = None,
        base_url: str | None = None,
        fallback: "AsyncClient[Any] | SyncClient[Any] | None" = None,
    ) -> None:
        self._set_up(
            LMSettings(
                name=name,
                namespace=namespace,
                endpoints=_settings.urls(endpoints),
                kubeconfig=_settings.path(kubeconfig),
                context=context,
                timeout=timeout,
                ready_timeout=ready_timeout,
                max_in_flight=max_in_flight,
                progress=progress,
                affinity=affinity,
                adapter=adapter,
                access=access,
                service_account=service_account,
                api_key=api_key,
                provider=_settings.provider_of(provider, base_url),
                base_url=base_url,
                fallback=_settings_of(fallback),
            )
        )


class RMArguments:
    """The arguments of `RMCall` and of `AsyncRMCall`."""

    def __init__(
        self: Face,
        name: str,
        *,
        namespace: str | None = None,
        endpoints: Sequence[str] | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        context: str | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 600.0,
        max_in_flight: int | None = None,
        progress: bool | None = None,
        affinity: Mode | None = None,
        access: Access | None = None,
        service_account: str | None = None,
        api_key: str | None = None,
        aggregation: Aggregation | None = None,
        allow_mixed_revisions: bool = False,
    ) -> None:
        self._set_up(
            RewardSettings(
                name=name,
                kind=kube.REWARDMODEL,
                namespace=namespace,
                endpoints=_settings.urls(endpoints),
                kubeconfig=_settings.path(kubeconfig),
                context=context,
                timeout=timeout,
                ready_timeout=ready_timeout,
                max_in_flight=max_in_flight,
                progress=progress,
                affinity=affinity,
                access=access,
                service_account=service_account,
                api_key=api_key,
                aggregation=aggregation,
                allow_mixed_revisions=allow_mixed_revisions,
            )
        )


S = TypeVar("S", bound=Settings)


class AsyncClient(Generic[S]):
    """The core of a client. Its state is its settings: what it opened stays behind."""

    _settings: S

    def _set_up(self, settings: S) -> None:
        self._settings = settings
        self._sessions = Sessions(settings, self._session_maker())

    def _session_maker(self) -> "Callable[[Settings], Session]":
        """What makes the session of an event loop."""
        # The HTTP library takes longer to import than everything else here: the first client
        # pays for it, not `import modelworker`.
        from modelworker._session import Session  # noqa: PLC0415

        return Session

    def __getstate__(self) -> S:
        return self._settings

    def __setstate__(self, state: S) -> None:
        self._set_up(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.name!r}, {self._settings.where()})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what belongs to the running event loop; a later call opens it anew."""
        await self._sessions.aclose()

    async def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers, as known in this event loop; asks nobody."""
        return self._sessions.here().workers

    async def in_flight(self) -> dict[str, int]:
        """Calls under way from this event loop, by worker; those without any are left out."""
        return self._sessions.here().in_flight

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._settings.timeout
        _settings.seconds("timeout", timeout)
        return timeout


Core = TypeVar("Core", bound=AsyncClient[Any])


class SyncClient(Generic[Core]):
    """A sync face: it waits for its core in the background loop."""

    _core: ClassVar[type[AsyncClient[Any]]]
    aio: Core
    """The same, awaitable."""

    def _set_up(self, settings: Settings) -> None:
        aio: Any = object.__new__(self._core)
        aio.__setstate__(settings)
        self.aio = aio

    def __repr__(self) -> str:
        return repr(self.aio).removeprefix("Async")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and stop watching; a later call opens them anew."""
        _sync.run(self.aio.aclose())

    def workers(self) -> tuple[str, ...]:
        """Base URLs of the ready workers, as known now; empty before the first call."""
        return _sync.run(self.aio.workers())

    def in_flight(self) -> dict[str, int]:
        """Calls of this client under way, by worker; those without any are left out."""
        return _sync.run(self.aio.in_flight())


def _settings_of(fallback: object) -> LMSettings | None:
    """The settings of the LM to fall back to.

    Raises:
        InvalidRequest: if it is none.
    """
    if fallback is None:
        return None
    core = fallback.aio if isinstance(fallback, SyncClient) else fallback
    settings = core.__getstate__() if isinstance(core, AsyncClient) else None
    if not isinstance(settings, LMSettings):
        raise InvalidRequest(f"fallback must be an LM or an AsyncLM, not {fallback!r:.80}")
    return settings
