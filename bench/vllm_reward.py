"""Answers per second scored by a reward model on vLLM against the transformers engine.

Two worker processes with the same SmolLM2 as a +/- judge in float32 take turns through
`RMCall`: questions with 16 answers of 6 steps each that no round has seen before. Scores must
agree to 1e-4, or the run fails.
"""

import random
import statistics
import time

from _common import quick, report
from _judge import Answer, furthest, scoring, words
from _vllm import worker_flags
from _worker import model_folder, served, worker
from modelworker import RMCall

ANSWERS, STEPS = 16, 6
QUESTION_WORDS, STEP_WORDS = 60, 24
VLLM, TRANSFORMERS = "vLLM", "transformers"


def main() -> None:
    short = quick(__doc__)
    questions, rounds = (2, 2) if short else (4, 4)
    rng = random.Random(7)
    folder, file = model_folder()
    seconds: dict[str, list[float]] = {VLLM: [], TRANSFORMERS: []}
    apart = 0.0
    with (
        worker("--name", "judge", *worker_flags(), "--scoring", scoring()) as on_vllm,
        served(folder, file, "--name", "judge", "--scoring", scoring()) as on_transformers,
        RMCall("judge", endpoints=[on_vllm], progress=False) as vllm,
        RMCall("judge", endpoints=[on_transformers], progress=False) as transformers,
    ):
        for round_ in range(rounds + 1):  # the first warms both up
            asked = [
                Answer(question, tuple(words(rng, STEP_WORDS) for _ in range(STEPS)))
                for question in (words(rng, QUESTION_WORDS) for _ in range(questions))
                for _ in range(ANSWERS)
            ]
            found = []
            for name, rm in ((TRANSFORMERS, transformers), (VLLM, vllm)):
                began = time.perf_counter()
                scores = rm.score([(one.question, one.steps) for one in asked])
                if round_:
                    seconds[name].append(time.perf_counter() - began)
                found.append([[step.value for step in score.steps] for score in scores])
            apart = max(apart, furthest(*found))
    if apart > 1e-4:
        raise SystemExit(f"scores differ by up to {apart:.2g}")
    count = questions * ANSWERS
    rates = {name: count / statistics.median(values) for name, values in seconds.items()}
    report(
        list(rates.items()),
        bench="vllm_reward",
        value=rates[VLLM],
        unit="answers/s",
        baseline=rates[TRANSFORMERS],
        ratio=rates[VLLM] / rates[TRANSFORMERS],
        furthest=apart,
        questions=questions,
        answers=ANSWERS,
        steps=STEPS,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
