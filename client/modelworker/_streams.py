"""One streamed answer, whichever workers it comes from.

A stream that a dying worker cuts goes on at another one, from the tokens that were delivered:
`_resume` says how, this module asks.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from modelworker import _answers
from modelworker._answers import Answer
from modelworker._errors import ModelWorkerError, StreamInterrupted
from modelworker._requests import Body
from modelworker._results import Chunk, Sample
from modelworker._resume import (
    LEAST_RESUMPTIONS,
    CannotResume,
    Continuation,
    Seam,
    answer_text,
    continuation,
    received_ids,
)

if TYPE_CHECKING:
    from modelworker._session import Session

COMPLETIONS: Final = "/v1/completions"
DETOKENIZE: Final = "/detokenize"

Parse = Callable[[Answer], list[Chunk]]


class Stream:
    """The parts of one answer, and what has come of it."""

    def __init__(self, session: "Session", timeout: float, affinity: str | None) -> None:
        self._session = session
        self._timeout = timeout
        self._affinity = affinity
        self._received: list[Chunk] = []
        self._prompt_ids: Sequence[int] | None = None
        self._revision: str | None = None

    async def parts(self, path: str, body: Body, parse: Parse) -> AsyncGenerator[Chunk, None]:
        """The parts as they come, each once.

        Raises:
            StreamInterrupted: if the stream broke and cannot go on, with what came.
            ModelWorkerError: what the request ended with before its first part.
        """
        request = body
        for left in range(max(LEAST_RESUMPTIONS, len(self._session.workers)), -1, -1):
            begun = False
            try:
                async with (
                    self._session.stream(path, request, self._timeout, self._affinity) as events,
                    aclosing(events),
                ):
                    begun = True
                    async for event in events:
                        self._see(event)
                        for chunk in parse(event):
                            self._received.append(chunk)
                            yield chunk
            except (ModelWorkerError, CannotResume) as error:
                broken = error
                final = isinstance(error, CannotResume) or not error.retryable or not left
                if not self._received and (final or not begun):
                    raise
            else:
                return
            if self._finished(body):
                return
            if final:
                raise self._interrupted(broken) from broken
            if not self._received:
                # Nobody has seen anything of it: whoever answers may answer from the beginning.
                self._prompt_ids = self._revision = None
                continue
            try:
                how = continuation(body, self._prompt_ids)
                async with aclosing(self._bridge(how)) as bridge:
                    async for chunk in bridge:
                        self._received.append(chunk)
                        yield chunk
                if self._finished(body):
                    return
                path, parse = COMPLETIONS, _answers.completion_chunks
                request = how.rest(received_ids(self._received))
            except (CannotResume, ModelWorkerError) as why:
                raise self._interrupted(broken, why) from broken

    async def _bridge(self, how: Continuation) -> AsyncGenerator[Chunk, None]:
        """What must come before another stream can go on by itself.

        First the text that the worker had held back; then, while that is the beginning of a
        stop string or of a character, one token after the other.
        """
        ids = received_ids(self._received)
        seam = Seam(
            "".join(chunk.text for chunk in self._received),
            how.stops,
            include_stop=how.include_stop,
        )
        base = await self._text(how, ())
        whole = answer_text(base, await self._text(how, ids))
        part = _part(seam, whole, None, last=len(ids) >= how.limit)
        if part.text or part.finish_reason:
            yield part
        while not (seam.clean or part.finish_reason):
            sample = await self._next_token(how, ids)
            tokens = sample.token_ids or ()
            ids += tokens
            # The text of a token that ends the answer is the worker's to say: most have none.
            ends = sample.finish_reason == "stop"
            shown = ids[: len(ids) - len(tokens)] if ends else ids
            whole = answer_text(base, await self._text(how, shown))
            if ends:
                whole += sample.text
            part = _part(seam, whole, sample, last=ends or len(ids) >= how.limit)
            yield part

    async def _next_token(self, how: Continuation, ids: Sequence[int]) -> Sample:
        answer = await self._post(COMPLETIONS, how.one_token(ids))
        self._see(answer)
        sample = _answers.completion(answer, n=1).samples[0]
        if len(sample.token_ids or ()) != 1:
            raise CannotResume("the next worker did not say which token comes next")
        return sample

    async def _text(self, how: Continuation, ids: Sequence[int]) -> str:
        answer = await self._post(DETOKENIZE, how.detokenize(ids))
        return _answers.read(answer, lambda body: str(body["prompt"]))

    async def _post(self, path: str, body: Body) -> Answer:
        session = self._session
        return await session.post(path, body, session.until(self._timeout), self._affinity)

    def _see(self, event: Answer) -> None:
        """Keep what the first event says of the prompt and the model.

        Raises:
            CannotResume: if another revision of the model would go on.
        """
        if self._prompt_ids is None:
            self._prompt_ids = _answers.read(event, _prompt_ids)
        if self._revision is None:
            self._revision = event.revision
        elif event.revision != self._revision:
            raise CannotResume(
                f"it came from revision {self._revision} of the model, and "
                f"{event.worker or event.url} has {event.revision}"
            )

    def _finished(self, body: Body) -> bool:
        """Whether every sample has ended, so that nothing is missing but the stream's end."""
        ended = sum(chunk.finish_reason is not None for chunk in self._received)
        samples: int = body.get("n", 1)
        return ended >= samples

    def _interrupted(self, error: Exception, why: Exception | None = None) -> StreamInterrupted:
        reason = "" if why is None else f", and it cannot go on elsewhere: {why}"
        return StreamInterrupted(
            f"the stream broke after {len(self._received)} parts: {error}{reason}; what came is in "
            "`chunks`, `text` and `token_ids`; ask again for the whole answer",
            tuple(self._received),
        )


def _part(seam: Seam, whole: str, sample: Sample | None, *, last: bool) -> Chunk:
    """What a token adds to the answer, or with no token what had been held back."""
    text = seam.advance(whole, last=last)
    finish: str | None = None
    reason: str | int | None = None
    if seam.stop is not None:
        finish, reason = "stop", seam.stop
    elif last and sample is not None:
        finish, reason = sample.finish_reason, sample.stop_reason
    elif last:
        finish = "length"
    if sample is None:
        return Chunk(0, text, (), (), finish, reason)
    return Chunk(0, text, sample.token_ids, sample.logprobs, finish, reason)


def _prompt_ids(body: Mapping[str, Any]) -> Sequence[int] | None:
    choices = body.get("choices")
    first = choices[0] if choices else {}
    return first.get("prompt_token_ids") or body.get("prompt_token_ids")
