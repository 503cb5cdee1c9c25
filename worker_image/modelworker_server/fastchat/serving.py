"""Runs FastChat's jobs on the worker; a client that leaves ends its work."""

import base64
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from fastapi import Request, Response

from modelworker_api import fastchat, wire
from modelworker_server.connection import while_connected
from modelworker_server.errors import Unavailable
from modelworker_server.fastchat.answers import Answers
from modelworker_server.fastchat.errors import failure, known_error
from modelworker_server.fastchat.translate import Generation
from modelworker_server.openai.serving import EventStream, json_response
from modelworker_server.openai.translate import EmbeddingJob
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker, Sample


async def generate(server: ServerState, request: Request, job: Generation) -> Response:
    """The whole answer to a generation request."""
    answers = Answers(job, server.worker.token_text)
    with server.limiter.admit(job.params.n):
        work = server.worker.generate(job.prompt, job.params)
        for sample in await while_connected(request.receive, work):
            answers.add(sample)
    _count(server, job, answers)
    return json_response(answers.body())


async def stream(server: ServerState, request: Request, job: Generation) -> Response:
    """The answer in frames, each with all of the text so far."""
    frames = _frames(server, job)
    return FrameStream(await while_connected(request.receive, _first(frames)), frames)


async def embed(server: ServerState, request: Request, job: EmbeddingJob) -> Response:
    """The answer to an embedding request."""
    with server.limiter.admit(len(job.inputs)):
        work = server.worker.embed(job.inputs, pooling=None, normalize=True)
        vectors = await while_connected(request.receive, work)
    count = sum(map(len, job.inputs))
    server.metrics.tokens(prompt=count, completion=0)
    return json_response(
        fastchat.EmbeddingsAnswer(
            embedding=[_base64(vector) for vector in vectors] if job.base64 else vectors,
            token_num=count,
        )
    )


def status(server: ServerState) -> fastchat.WorkerStatus:
    """What a controller is told: no model while this worker takes no work."""
    load = server.load_now()
    try:
        server.lifecycle.require_ready()
        info = server.worker.info
        names = [info.name, *sorted(info.aliases)]
    except Unavailable:
        names = []
    return fastchat.WorkerStatus(
        model_names=names, speed=1, queue_length=load.running + load.waiting
    )


class FrameStream(EventStream):
    """Frames instead of events; FastChat's workers name no content type for them."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(first, rest)
        del self.headers["content-type"]


async def _first(frames: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(frames)


async def _frames(server: ServerState, job: Generation) -> AsyncGenerator[bytes, None]:
    """The frames of a stream; holds the job's place in the queue from the first to the last."""
    answers = Answers(job, server.worker.token_text)
    with server.limiter.admit(job.params.n):
        try:
            async with aclosing(_parts(server.worker, job)) as parts:
                async for part in parts:
                    answers.add(part)
                    # FastChat's clients read the last text from one frame, its end from the next.
                    if part.text and not job.lists:
                        yield _frame(answers.body(ended=False))
                    if part.finish_reason or (part.text and job.lists):
                        yield _frame(answers.body())
        except Exception as error:
            yield _frame(failure(known_error(error)))
        finally:
            _count(server, job, answers)


def _parts(worker: BaseModelWorker, job: Generation) -> AsyncGenerator[Sample, None]:
    # A worker's stream is a generator: closing it ends the work.
    return cast("AsyncGenerator[Sample, None]", worker.stream(job.prompt, job.params))


def _frame(content: wire.Wire) -> bytes:
    return content.model_dump_json(exclude_unset=True).encode() + fastchat.FRAME_END


def _count(server: ServerState, job: Generation, answers: Answers) -> None:
    server.metrics.tokens(prompt=len(job.prompt), completion=answers.completion_tokens)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
