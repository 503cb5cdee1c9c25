"""AsyncRMCall: the core of `RMCall`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from modelworker import _calls, _reward_answers, _score_inputs, _score_plan
from modelworker._affinity import key_of
from modelworker._answers import Answer
from modelworker._batch import OnError, checked_on_error
from modelworker._batches_aio import AsyncBatch, Work
from modelworker._calls import Call
from modelworker._client import AsyncClient, RMArguments
from modelworker._errors import (
    InvalidRequest,
    ModelNotServed,
    ModelWorkerError,
    RevisionChanged,
    Unsupported,
)
from modelworker._requests import Body
from modelworker._score_inputs import Aggregation, Item, Many, One
from modelworker._scores import Score
from modelworker._settings import RewardSettings

if TYPE_CHECKING:
    from modelworker._session import Session

REWARDS: Final = "/v1/rewards"

Outcome = Score | ModelWorkerError
Steps = Sequence[str] | Sequence[Sequence[str]]
Request = Call[tuple[int, ...], list[Outcome]]
"""Asks for the inputs of these indices."""
Keys = Sequence[str | None]
"""For each input what `_affinity.key_of` says."""


class AsyncRMCall(RMArguments, AsyncClient[RewardSettings]):
    """A reward model by name, awaitable; the arguments and methods are those of `RMCall`.

    It works in any event loop, and each loop gets its own connections. Close it with
    `aclose`, or use it in `async with`.
    """

    def _set_up(self, settings: RewardSettings) -> None:
        super()._set_up(settings)
        # One entry at most, set once: `setdefault` is safe between threads.
        self._first: dict[str, _reward_answers.Model] = {}

    @overload
    async def __call__(
        self, pairs: tuple[str, str], lm_step_tag: str | None = None, *, session: str | None = None
    ) -> list[float]: ...
    @overload
    async def __call__(
        self,
        pairs: Sequence[tuple[str, str]],
        lm_step_tag: str | None = None,
        *,
        session: str | None = None,
    ) -> list[list[float]]: ...
    async def __call__(
        self, pairs: Any, lm_step_tag: str | None = None, *, session: str | None = None
    ) -> list[float] | list[list[float]]:
        """The score of each step of an answer, or of each answer of a list; see `RMCall`."""
        one, items = _score_inputs.checked_pairs(pairs, lm_step_tag)
        keys = self._keys(items, session)
        call = self._request(items, keys, None, None)
        if one:
            return (await self._one(call)).step_scores
        scores: list[Score] = await self._batch(items, keys, call, "raise").whole()
        return [score.step_scores for score in scores]

    @overload
    async def score(
        self,
        inputs: One,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Score: ...
    @overload
    async def score(
        self,
        inputs: Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> list[Score]: ...
    @overload
    async def score(
        self,
        inputs: One,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> Outcome: ...
    @overload
    async def score(
        self,
        inputs: Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> list[Outcome]: ...
    async def score(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
    ) -> Outcome | list[Score] | list[Outcome]:
        """The score of an answer, or of each answer of a list; see `RMCall.score`."""
        checked_on_error(on_error)
        one, items = _score_inputs.checked(inputs, steps=steps, separator=separator)
        keys = self._keys(items, session)
        call = self._request(items, keys, aggregation, timeout)
        if not one:
            return await self._batch(items, keys, call, on_error).whole()
        try:
            return await self._one(call)
        except ModelWorkerError as error:
            if on_error == "raise":
                raise
            return error

    @overload
    def submit(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> AsyncBatch[Score]: ...
    @overload
    def submit(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: Literal["return"],
    ) -> AsyncBatch[Outcome]: ...
    def submit(
        self,
        inputs: One | Many,
        *,
        steps: Steps | None = None,
        separator: str | None = None,
        aggregation: Aggregation | None = None,
        session: str | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
    ) -> AsyncBatch[Score] | AsyncBatch[Outcome]:
        """Score answers in the background of this event loop; see `RMCall.submit`."""
        checked_on_error(on_error)
        _, items = _score_inputs.checked(inputs, steps=steps, separator=separator)
        keys = self._keys(items, session)
        return self._batch(items, keys, self._request(items, keys, aggregation, timeout), on_error)

    # --- requests --------------------------------------------------------------------

    def _keys(self, items: Sequence[Item], session: str | None) -> Keys:
        return [key_of(session, self._settings.affinity, item.question) for item in items]

    def _request(
        self,
        items: Sequence[Item],
        keys: Keys,
        aggregation: Aggregation | None,
        timeout: float | None,
    ) -> Request:
        wanted = _score_inputs.checked_aggregation(aggregation) or self._settings.aggregation

        def body(group: tuple[int, ...], model: str) -> Body:
            return _score_inputs.request(
                [items[index] for index in group], model=model, aggregation=wanted
            )

        def parse(answer: Answer, group: tuple[int, ...]) -> list[Outcome]:
            outcomes = _reward_answers.scores(answer, [items[index] for index in group], group)
            self._check_model(answer)
            return list(outcomes)

        # All inputs of a request have one key.
        return Call(REWARDS, body, parse, self._seconds(timeout), lambda group: keys[group[0]])

    async def _one(self, call: Request) -> Score:
        (outcome,) = await _calls.one(self._sessions.here(), call, (0,))
        if isinstance(outcome, ModelWorkerError):
            raise outcome
        return outcome

    def _batch(
        self, items: Sequence[Item], keys: Keys, call: Request, on_error: OnError
    ) -> AsyncBatch[Any]:
        session = self._sessions.here()

        async def ask(group: tuple[int, ...]) -> list[Outcome]:
            return await _ask(session, call, group)

        work = Work(
            count=len(items),
            plan=lambda workers: _score_plan.requests(items, keys, workers=workers),
            weight=lambda group: sum(_score_plan.tokens(items[index]) for index in group),
            ask=ask,
        )
        return AsyncBatch(session, work, on_error=on_error, progress=self._settings.progress)

    def _check_model(self, answer: Answer) -> None:
        model = _reward_answers.model_of(answer)
        first = self._first.setdefault("first", model)
        if model == first or self._settings.allow_mixed_revisions:
            return
        changed = RevisionChanged(
            f"worker {answer.worker or answer.url} scores with revision {model[0]} and recipe "
            f"{model[1]}, the first scores of this client came from revision {first[0]} and recipe "
            f"{first[1]}: they do not compare. Score all of them again with a new RMCall, or pass "
            "allow_mixed_revisions=True"
        )
        changed.worker = answer.url
        raise changed


async def _ask(session: "Session", call: Request, group: tuple[int, ...]) -> list[Outcome]:
    """The outcomes of a request; one that is refused is halved until the refused input is alone."""
    try:
        async with session.gate.place(None):
            return await _calls.ask(session, call, group, session.until(call.timeout))
    except InvalidRequest as error:
        if isinstance(error, ModelNotServed | Unsupported):
            raise
        if len(group) == 1:
            return [_of_input(error, group[0])]
    half = len(group) // 2
    return [
        *await _ask(session, call, group[:half]),
        *await _ask(session, call, group[half:]),
    ]


def _of_input(error: InvalidRequest, index: int) -> InvalidRequest:
    """The same about an input of the caller's list; the worker counts in its request."""
    named = type(error)(f"input {index}: {error}")
    named.worker, named.__cause__ = error.worker, error
    return named
