"""Prompt tokens that beam search finds in vLLM's prefix caches, with and without sessions.

Two workers, several searches side by side. Each search has a prompt of its own and grows a few
beams by steps of a fixed number of tokens; a step's prompt is everything before it, in token
ids. With sessions every request of a search names it, so that it meets the worker that holds
its cache; without, each request goes to the less loaded worker. The same searches run both
ways in turns, on prompts that no round has seen before. What the caches were asked for and
what they had is read from the workers' own metrics; the rest of the prompts was computed.
`ratio` is the prompt tokens computed without sessions divided by those with them.
"""

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from _common import quick, report
from _judge import words
from _vllm import prefix_cache, worker_flags
from _worker import worker
from modelworker import LM

PROMPT_WORDS = 300
STEP_TOKENS = 32
SEARCHES, WIDTH, SAMPLES = 6, 2, 3
ON, OFF = "sessions", "no sessions"


@dataclass(frozen=True)
class Beam:
    """Token ids so far, and the mean log-probability of the last step."""

    ids: tuple[int, ...]
    score: float = 0.0


def search(lm: LM, prompt: list[int], levels: int, session: str | None) -> None:
    """Grow the beams level by level; keep the likeliest steps."""
    beams = [Beam(tuple(prompt))]
    for _ in range(levels):
        answers = lm.generate(
            [list(beam.ids) for beam in beams],
            n=SAMPLES,
            max_tokens=STEP_TOKENS,
            ignore_eos=True,
            temperature=1.0,
            seed=11,
            session=session,
        )
        grown = [
            Beam((*beam.ids, *(sample.token_ids or ())), sample.mean_logprob or 0.0)
            for beam, answer in zip(beams, answers, strict=True)
            for sample in answer.samples
        ]
        beams = sorted(grown, key=lambda beam: beam.score, reverse=True)[:WIDTH]


def main() -> None:
    short = quick(__doc__)
    levels, rounds = (3, 1) if short else (6, 3)
    rng = random.Random(7)
    asked: dict[str, list[float]] = {ON: [], OFF: []}
    found: dict[str, list[float]] = {ON: [], OFF: []}
    seconds: dict[str, list[float]] = {ON: [], OFF: []}
    flags = ["--name", "policy", *worker_flags(extra_args=["--block-size", "32"])]
    with (
        worker(*flags) as first,
        worker(*flags) as second,
        LM("policy", endpoints=[first, second], progress=False) as lm,
        ThreadPoolExecutor(SEARCHES) as pool,
    ):
        warm = lm.generate([words(rng, 8) for _ in range(8)], max_tokens=4)
        vocabulary = [token for answer in warm for token in answer.prompt_token_ids or ()]
        for round_ in range(rounds):
            for name in (ON, OFF) if round_ % 2 else (OFF, ON):
                # Ids of real words, one for each: prompts are all of the same length.
                prompts = [rng.choices(vocabulary, k=PROMPT_WORDS) for _ in range(SEARCHES)]
                before = [prefix_cache(url) for url in (first, second)]
                began = time.perf_counter()
                searches = [
                    pool.submit(search, lm, prompt, levels, f"{round_} {i}" if name == ON else None)
                    for i, prompt in enumerate(prompts)
                ]
                for one in searches:
                    one.result()
                seconds[name].append(time.perf_counter() - began)
                after = [prefix_cache(url) for url in (first, second)]
                both = [
                    [now[i] - then[i] for then, now in zip(before, after, strict=True)]
                    for i in (0, 1)
                ]
                asked[name].append(sum(both[0]))
                found[name].append(sum(both[1]))
    hits = {name: sum(values) for name, values in found.items()}
    computed = {name: sum(asked[name]) - hits[name] for name in hits}
    wall = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        [(f"found, {name}", hits[name]) for name in hits]
        + [(f"computed, {name}", computed[name]) for name in computed],
        bench="affinity",
        value=computed[ON],
        unit="tokens",
        baseline=computed[OFF],
        ratio=computed[OFF] / computed[ON],
        goal=1.5,
        found_ratio=hits[ON] / hits[OFF],
        seconds_ratio=wall[OFF] / wall[ON],
        searches=SEARCHES,
        levels=levels,
        width=WIDTH,
        samples=SAMPLES,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
