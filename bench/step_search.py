"""A step search with incremental scoring against the same without it.

The trace: a prompt of about 150 tokens, 12 levels of one more step of about 40 tokens, 4
answers that grow side by side; each level asks for the scores of all steps so far, as tree
search does. One worker keeps what it has computed (`cache_tokens`), the other does not; a
third way computes one text at a time in this process. They take turns on texts that no round
has seen before. Every score must agree with the last way's to 1e-4, or the run fails.
"""

import random
import statistics
import time

import torch

from _common import quick, report
from _judge import Answer, Judge, Way, furthest, scoring, words
from _worker import model_folder, served
from modelworker import RMCall

PROMPT_WORDS, STEP_WORDS = 140, 38
WIDTH = 4
ON, OFF, SEQUENTIAL = "incremental", "from scratch", "one text at a time"
CACHE_TOKENS = 16_384


def trace(rng: random.Random, levels: int) -> list[list[Answer]]:
    """What is asked at each level."""
    question = words(rng, PROMPT_WORDS)
    chains = [[words(rng, STEP_WORDS) for _ in range(levels)] for _ in range(WIDTH)]
    return [
        [Answer(question, tuple(chain[:level])) for chain in chains]
        for level in range(1, levels + 1)
    ]


def asking(rm: RMCall) -> Way:
    """Scores by a worker."""

    def ask(asked: list[Answer]) -> list[list[float]]:
        scores = rm.score([(one.question, one.steps) for one in asked])
        return [[step.value for step in score.steps] for score in scores]

    return ask


def main() -> None:
    short = quick(__doc__)
    levels, rounds = (6, 2) if short else (12, 3)
    folder, file = model_folder()
    judge = Judge(folder, file)
    rng = random.Random(7)
    seconds: dict[str, list[float]] = {ON: [], OFF: [], SEQUENTIAL: []}
    apart = 0.0
    with (
        served(
            folder, file, "--name", "judge", "--scoring", scoring(cache_tokens=CACHE_TOKENS)
        ) as keeping,
        served(folder, file, "--name", "judge", "--scoring", scoring()) as forgetting,
        RMCall("judge", endpoints=[keeping], progress=False) as on,
        RMCall("judge", endpoints=[forgetting], progress=False) as off,
    ):
        ways = {SEQUENTIAL: judge.one_by_one, OFF: asking(off), ON: asking(on)}
        for way in ways.values():
            way(trace(rng, 1)[0])
        for _ in range(rounds):
            asked = trace(rng, levels)
            expected: list[list[list[float]]] | None = None
            for name, way in ways.items():
                started = time.perf_counter()
                found = [way(level) for level in asked]
                seconds[name].append(time.perf_counter() - started)
                expected = expected or found
                apart = max(apart, *map(furthest, found, expected))
    if apart > 1e-4:
        raise SystemExit(f"scores differ by up to {apart:.2g}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        list(medians.items()),
        bench="step_search",
        value=medians[ON],
        unit="s",
        baseline=medians[OFF],
        ratio=medians[OFF] / medians[ON],
        goal=5,
        sequential_ratio=medians[SEQUENTIAL] / medians[ON],
        furthest=apart,
        levels=levels,
        width=WIDTH,
        rounds=rounds,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
