"""Runs checked jobs on the worker and sends the answers; a client that leaves ends its work."""

import asyncio
import base64
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from modelworker_api import tokens, wire
from modelworker_server.connection import while_connected
from modelworker_server.errors import ClientGone, WorkerError, bug
from modelworker_server.openai.answers import Answers, token_count, usage
from modelworker_server.openai.translate import EmbeddingJob, Job
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker, Sample, SamplingParams, TokenLogprob

T = TypeVar("T")

_log = logging.getLogger(__name__)


async def generate(server: ServerState, request: Request, job: Job, answers: Answers) -> Response:
    """The answer to a generation request, as one JSON object or as a stream of events."""
    if job.stream:
        events = _events(server, job, answers)
        # What goes wrong before the first byte is still an HTTP error.
        first = await while_connected(request.receive, _begin(events))
        return EventStream(first, events)
    with server.limiter.admit(job.sequences):
        samples, response = await while_connected(
            request.receive, _whole(server.worker, job, answers)
        )
    server.metrics.tokens(prompt=job.prompt_tokens, completion=token_count(samples))
    return response


async def embed(server: ServerState, request: Request, job: EmbeddingJob) -> Response:
    """The answer to an embedding request."""
    with server.limiter.admit(len(job.inputs)):
        vectors = await while_connected(
            request.receive,
            server.worker.embed(job.inputs, pooling=job.pooling, normalize=job.normalize),
        )
    count = sum(map(len, job.inputs))
    server.metrics.tokens(prompt=count, completion=0)
    data = [
        tokens.EmbeddingData(
            object="embedding", index=index, embedding=_base64(vector) if job.base64 else vector
        )
        for index, vector in enumerate(vectors)
    ]
    model = server.worker.info.name
    return json_response(
        tokens.EmbeddingResponse(object="list", data=data, model=model, usage=usage(count, 0))
    )


class EventStream(Response):
    """Server-sent events: the first, which is known already, and those that follow."""

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all, or as many as the client waits for."""
        async with aclosing(self._rest):
            # Nobody is left to be told of it: the answer had begun.
            with suppress(ClientGone):
                await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for event in self._rest:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def json_response(answer: wire.Wire) -> Response:
    """The fields of an answer that were set, as JSON."""
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


async def _begin(events: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(events)


async def _events(server: ServerState, job: Job, answers: Answers) -> AsyncGenerator[bytes, None]:
    """The events of a stream; holds the job's place in the queue from the first to the last."""
    generated = 0
    begun = False
    with server.limiter.admit(job.sequences):
        try:
            if job.score_top is not None:
                scores = await _score_all(server.worker, job, job.score_top)
                await asyncio.to_thread(answers.prompts_scored, scores)
            async with aclosing(_stream_all(server.worker, job)) as parts:
                async for prompt, part in parts:
                    generated += len(part.token_ids)
                    if chunk := answers.chunk(prompt, part):
                        begun = True
                        yield _event(chunk)
            if job.include_usage:
                yield _event(answers.end(generated))
        except Exception as error:
            if not begun:
                raise
            yield _event(_told(error).body())
        finally:
            server.metrics.tokens(prompt=job.prompt_tokens, completion=generated)
    yield b"data: [DONE]\n\n"


def _told(error: Exception) -> WorkerError:
    """The error that the reader of a stream gets, as its status was sent already."""
    if isinstance(error, WorkerError):
        return error
    _log.error("a stream failed", exc_info=error)
    return bug(error)


def _event(content: wire.Wire) -> bytes:
    return b"data: " + content.model_dump_json(exclude_unset=True).encode() + b"\n\n"


async def _whole(
    worker: BaseModelWorker, job: Job, answers: Answers
) -> tuple[list[tuple[Sample, ...]], Response]:
    """The samples of every prompt, and the answer made of them."""
    if job.score_top is None:
        samples = await _generate_all(worker, job)
        return samples, json_response(answers.whole(samples))
    generating = asyncio.create_task(_generate_all(worker, job))
    try:
        scores = await _score_all(worker, job, job.score_top)
        samples = await generating
    finally:
        await _cancelled([generating])

    def answer() -> Response:
        answers.prompts_scored(scores)
        return json_response(answers.whole(samples))

    # A hundred thousand log-probabilities take half a second: streams would stand still.
    return samples, await asyncio.to_thread(answer)


async def _score_all(worker: BaseModelWorker, job: Job, top: int) -> list[tuple[TokenLogprob, ...]]:
    """What the tokens of every prompt got, from the second one on."""
    return await _all(worker.score_tokens(ids, top=top) for ids in job.prompts)


async def _generate_all(worker: BaseModelWorker, job: Job) -> list[tuple[Sample, ...]]:
    """The samples of every prompt; empty ones where the prompt alone is asked for."""
    if not job.params.max_tokens:
        return [_nothing(job.params) for _ in job.prompts]
    return await _all(worker.generate(ids, job.params) for ids in job.prompts)


def _nothing(params: SamplingParams) -> tuple[Sample, ...]:
    """The samples where no token was asked for."""
    logprobs = None if params.logprobs is None else ()
    return tuple(Sample(index, "", (), logprobs, "length") for index in range(params.n))


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, of works under way at once; the first failure ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancelled(tasks)


async def _stream_all(
    worker: BaseModelWorker, job: Job
) -> AsyncGenerator[tuple[int, Sample], None]:
    """The parts of every prompt's samples with the prompt's position, as they come."""
    if not job.params.max_tokens:
        for position in range(len(job.prompts)):
            for sample in _nothing(job.params):
                yield position, sample
        return
    async with AsyncExitStack() as stack:
        streams: list[AsyncIterator[Sample]] = []
        for ids in job.prompts:
            # A worker's stream is a generator: closing it ends the work.
            stream = cast("AsyncGenerator[Sample, None]", worker.stream(ids, job.params))
            streams.append(await stack.enter_async_context(aclosing(stream)))
        queue: asyncio.Queue[tuple[int, Sample] | Exception | None] = asyncio.Queue(
            maxsize=len(streams)
        )
        pumps = [
            asyncio.create_task(_pump(position, stream, queue))
            for position, stream in enumerate(streams)
        ]
        stack.push_async_callback(_cancelled, pumps)
        pending = len(pumps)
        while pending:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                pending -= 1
            else:
                yield item


async def _pump(
    position: int,
    stream: AsyncIterator[Sample],
    queue: asyncio.Queue[tuple[int, Sample] | Exception | None],
) -> None:
    try:
        async for part in stream:
            await queue.put((position, part))
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
