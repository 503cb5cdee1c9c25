"""Answers scored per second by our worker over HTTP, against two ways without it.

Best of 16: 8 questions of about 100 tokens, 16 answers of 6 steps to each, as RMCall sends
them. The sequential baseline takes one text in each forward pass, computes all its logits and
collects garbage after it, as the reward workers of today's search code do; the bare one pads
batches sorted by length and reads two columns at the tags. All three take turns in one run,
on the same weights. Every score must agree with the sequential one to 1e-4, or the run fails.
"""

import random
import statistics
import time

import torch

from _common import quick, report
from _judge import Answer, Judge, Way, furthest, scoring, words
from _worker import model_folder, served
from modelworker import RMCall

QUESTION_WORDS, STEP_WORDS = 88, 16
STEPS, SAMPLES = 6, 16
BARE_TOKENS = 1024
"""Padded tokens in one forward pass of the bare baseline: its best on two cores."""
OURS, SEQUENTIAL, BARE = "RMCall to our worker", "one text at a time", "bare padded batches"


def answers(rng: random.Random, questions: int) -> list[Answer]:
    """16 answers to each question; steps differ in length."""
    made = []
    for _ in range(questions):
        question = words(rng, QUESTION_WORDS)
        for _ in range(SAMPLES):
            steps = (words(rng, rng.randint(STEP_WORDS - 6, STEP_WORDS + 6)) for _ in range(STEPS))
            made.append(Answer(question, tuple(steps)))
    return made


def main() -> None:
    short = quick(__doc__)
    questions, rounds = (2, 2) if short else (8, 3)
    folder, file = model_folder()
    judge = Judge(folder, file)
    rng = random.Random(7)
    rates: dict[str, list[float]] = {OURS: [], SEQUENTIAL: [], BARE: []}
    apart = 0.0
    with (
        served(folder, file, "--name", "judge", "--scoring", scoring()) as url,
        RMCall("judge", endpoints=[url], progress=False) as rm,
    ):
        ways: dict[str, Way] = {
            SEQUENTIAL: judge.one_by_one,
            BARE: lambda asked: judge.batched(asked, BARE_TOKENS),
            OURS: lambda asked: [
                [step.value for step in score.steps]
                for score in rm.score([(one.question, one.steps) for one in asked])
            ],
        }
        warm = answers(rng, 1)
        for way in ways.values():
            way(warm)
        for _ in range(rounds):
            asked = answers(rng, questions)
            expected: list[list[float]] | None = None
            for name, way in ways.items():
                started = time.perf_counter()
                found = way(asked)
                rates[name].append(len(asked) / (time.perf_counter() - started))
                expected = expected or found
                apart = max(apart, furthest(found, expected))
    if apart > 1e-4:
        raise SystemExit(f"scores differ by up to {apart:.2g}")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    value, baseline = medians[OURS], medians[SEQUENTIAL]
    report(
        list(medians.items()),
        bench="reward_throughput",
        value=value,
        unit="answers/s",
        baseline=baseline,
        ratio=value / baseline,
        goal=2.2,
        bare_ratio=value / medians[BARE],
        bare_goal=0.9,
        furthest=apart,
        answers=questions * SAMPLES,
        rounds=rounds,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
