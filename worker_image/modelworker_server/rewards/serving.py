"""Scores checked jobs on the worker; a client that leaves ends its work."""

from collections.abc import Mapping, Sequence

from fastapi import Request

from modelworker_server.connection import while_connected
from modelworker_server.errors import InputFailed, Unavailable, WorkerError
from modelworker_server.scoring.values import Layout, Scores
from modelworker_server.state import ServerState


async def score_each(
    server: ServerState, request: Request, inputs: Sequence[Layout | WorkerError]
) -> list[Scores | WorkerError]:
    """The scores of each input, or the error of that input alone, in order.

    Raises:
        Overloaded: the queue is full.
        Unavailable: this worker scores nothing now, another one may.
    """
    layouts = [one for one in inputs if isinstance(one, Layout)]
    scored = iter(await _score(server, request, layouts))
    results = [one if isinstance(one, WorkerError) else next(scored) for one in inputs]
    _count(server, inputs, results)
    return results


async def score_all(
    server: ServerState, request: Request, layouts: Mapping[str, Layout | None]
) -> dict[str, Scores]:
    """The scores of every layout there is, by its place in the request.

    Raises:
        InputFailed: for the first input without scores; also as `score_each` does.
    """
    given = {place: layout for place, layout in layouts.items() if layout is not None}
    results = await score_each(server, request, list(given.values()))
    scores = {}
    for place, result in zip(given, results, strict=True):
        if isinstance(result, WorkerError):
            raise InputFailed(result, place)
        scores[place] = result
    return scores


async def _score(
    server: ServerState, request: Request, layouts: Sequence[Layout]
) -> list[Scores | WorkerError]:
    if not layouts:
        return []
    with server.limiter.admit(len(layouts)):
        scored = await while_connected(request.receive, server.worker.score(layouts))
    for layout, result in zip(layouts, scored, strict=True):
        # It is the worker's trouble and no input's: the client has to try another worker.
        if isinstance(result, Unavailable):
            raise result
        if isinstance(result, Scores) and len(result.steps) != len(layout.places):
            raise RuntimeError(f"{len(result.steps)} scores for {len(layout.places)} steps")
    return scored


def _count(
    server: ServerState,
    inputs: Sequence[Layout | WorkerError],
    results: Sequence[Scores | WorkerError],
) -> None:
    tokens = []
    for given, result in zip(inputs, results, strict=True):
        if isinstance(result, WorkerError):
            server.metrics.score_failed(result.type)
        elif isinstance(given, Layout):
            tokens.append(len(given.token_ids))
    server.metrics.scored(inputs=len(tokens), tokens=sum(tokens))
