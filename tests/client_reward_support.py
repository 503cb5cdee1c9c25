"""What the tests of RMCall share: a reward worker's answers, known beforehand."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from modelworker import RMCall
from modelworker_api import rewards, wire
from tests.client_support import Behaviour, Reply, Request, StubWorker

SEPARATOR = "\n\n"
REVISION, RECIPE_HASH = "rev-1", "0123456789abcdef"


def score_of(question: str, step: str) -> float:
    """The score of a step: from 0 to 1, another for every question and step."""
    return crc32(f"{question}|{step}".encode()) / 2**32


def step_scores(question: str, steps: Sequence[str]) -> list[float]:
    """The score of each step."""
    return [score_of(question, step) for step in steps]


def reward(question: str, steps: Sequence[str], aggregation: str = "min") -> dict[str, Any]:
    """The scores of one answer as a worker sends them."""
    scores = step_scores(question, steps)
    whole = {"min": min(scores), "last": scores[-1], "sum": math.fsum(scores)}[aggregation]
    places = [
        {"score": score, "start_char": i, "end_char": i + 1, "start_token": i, "end_token": i + 1}
        for i, score in enumerate(scores)
    ]
    return {
        "score": whole,
        "steps": places,
        "aggregation": aggregation,
        "truncated": False,
        "token_count": 7,
    }


def result(index: int, given: dict[str, Any], aggregation: str = "min") -> dict[str, Any]:
    """The result of one input; an answer that holds FAIL has none."""
    question = given.get("question") or given["messages"][-2]["content"]
    text = given.get("response") or (given.get("messages") or [{}])[-1].get("content") or ""
    steps = given.get("steps") or [
        part for part in text.split(given.get("separator") or SEPARATOR) if part
    ]
    failed = [step for step in steps if "FAIL" in step]
    if failed or not steps:
        kind = "context_length_exceeded" if "LONG" in "".join(steps) else "step_mismatch"
        error = {"type": kind, "message": "it cannot be scored"}
        return {"index": index, "error": error | {"step": steps.index(failed[0]) if failed else 0}}
    return {"index": index, "reward": reward(question, steps, aggregation)}


def body(request: Request, **changes: Any) -> dict[str, Any]:
    """The answer to a request, in the contract's shape."""
    asked = rewards.RewardRequest.model_validate(request.body)
    aggregation = asked.aggregation or "min"
    data = [result(i, given, aggregation) for i, given in enumerate(request.body["inputs"])]
    answer = {
        "id": "rwd-1",
        "created": 1,
        "model": "prm",
        "recipe": "MathShepherd",
        "recipe_hash": RECIPE_HASH,
        "revision": REVISION,
        "data": data,
        "usage": wire.Usage(prompt_tokens=7, total_tokens=7).model_dump(),
    }
    valid = rewards.RewardResponse.model_validate(answer)
    return valid.model_dump(mode="json", exclude_none=True) | changes


async def scoring(request: Request) -> Reply:
    """A worker that scores."""
    return Reply(body(request))


def questions(request: Request) -> list[str]:
    """The questions that a request asks about, one for each of its answers."""
    return [given["question"] for given in request.body["inputs"]]


def batch_of(count: int, answers: int = 4) -> list[tuple[str, list[str]]]:
    """Answers of 1 to 5 steps of mixed lengths, some to each question."""
    return [
        (f"question {i // answers}", [f"{i}.{j} " + "x" * (i % 7 * 10) for j in range(1 + i % 5)])
        for i in range(count)
    ]


def expected(inputs: list[tuple[str, list[str]]]) -> list[list[float]]:
    """The steps' scores of each answer."""
    return [step_scores(question, steps) for question, steps in inputs]


def slowly(seconds: float) -> Behaviour:
    """A worker that scores after a while."""

    async def behave(request: Request) -> Reply:
        await asyncio.sleep(seconds)
        return await scoring(request)

    return behave


def rm(running: Sequence[StubWorker], **options: Any) -> RMCall:
    """A client of these workers."""
    return RMCall("prm", endpoints=[one.url for one in running], **options)
