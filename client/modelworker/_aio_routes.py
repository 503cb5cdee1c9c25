"""The ways from an `AsyncLM` to an answer: its own, then its fallback's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelworker import _answers, _dispatch, _providers
from modelworker._affinity import key_of
from modelworker._aio_workers import COMPLETIONS, AsyncWorkerCalls
from modelworker._answers import Answer
from modelworker._batch import OnError, checked_on_error
from modelworker._batches_aio import AsyncBatch
from modelworker._calls import Call
from modelworker._dispatch import Route, Routes
from modelworker._requests import Body, Sampling
from modelworker._results import Generation
from modelworker._settings import LMSettings

CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for, whoever answers."""

    params: Sampling
    session: str | None
    timeout: float | None
    chat: bool = False
    stream: bool = False
    go_on: bool = False
    """Whether a conversation's last message is to be continued."""

    def parse(self, answer: Answer, _: object) -> Any:
        """A `Generation`, or the parts in one event of a stream."""
        if self.stream:
            return (_answers.chat_chunks if self.chat else _answers.completion_chunks)(answer)
        whole = _answers.chat if self.chat else _answers.completion
        return whole(answer, n=self.params.n)


class AsyncRoutes(AsyncWorkerCalls):
    """What the calls of `AsyncLM` have in common, for any provider."""

    def _set_up(self, settings: LMSettings) -> None:
        super()._set_up(settings)
        self._dialect = _providers.dialect_of(settings)
        self._fallback: AsyncRoutes | None = None
        if settings.fallback is not None:
            self._fallback = AsyncRoutes.__new__(AsyncRoutes)
            self._fallback.__setstate__(settings.fallback)

    def _session_maker(self) -> Callable[[Any], Any]:
        if self._settings.provider == "modelworker":
            return super()._session_maker()
        _providers.require(self._settings.provider)
        return _providers.session

    async def aclose(self) -> None:
        """Close what belongs to the running event loop; a later call opens it anew."""
        await super().aclose()
        if self._fallback is not None:
            await self._fallback.aclose()

    def _routes(self, ask: Ask) -> Routes[Any, Any]:
        """The ways to an answer, in the order in which they are tried.

        Raises:
            InvalidRequest: for what one of them can never do.
        """
        rest = () if self._fallback is None else self._fallback._routes(ask)  # noqa: SLF001
        return (Route(self._sessions, self._call(ask)), *rest)

    def _call(self, ask: Ask) -> Call[Any, Any]:
        params, dialect = ask.params, self._dialect
        dialect.check(params, chat=ask.chat, stream=ask.stream, go_on=ask.go_on)

        def body(item: Any, model: str) -> Body:
            if not ask.chat:
                return dialect.completion(item, params, model=model, stream=ask.stream)
            return dialect.chat(
                item,
                params,
                model=model,
                continue_final_message=ask.go_on,
                stream=ask.stream,
            )

        def affinity(item: Any) -> str | None:
            return key_of(ask.session, self._settings.affinity, item)

        key_of(ask.session, None, "")  # a wrong one is refused before anything is sent
        path = CHAT if ask.chat else COMPLETIONS
        return Call(path, body, ask.parse, self._seconds(ask.timeout), affinity)

    async def _many(
        self, routes: Routes[Any, Generation], items: Sequence[Any], on_error: OnError
    ) -> list[Any]:
        checked_on_error(on_error)
        return await _dispatch.many(
            routes, items, on_error=on_error, progress=self._settings.progress
        )

    def _batch(
        self, routes: Routes[Any, Generation], items: Sequence[Any], on_error: OnError
    ) -> AsyncBatch[Any]:
        checked_on_error(on_error)
        return _dispatch.batch(routes, items, on_error=on_error, progress=self._settings.progress)
