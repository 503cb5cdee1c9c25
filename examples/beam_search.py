"""Beam search over steps: grow answers step by step, keep those whose steps score best.

Needs a ModelWorker and a RewardModel in the current cluster, such as those of smollm2.yaml
and smollm2-prm.yaml. Steps grow in token space: the next one goes on from the very tokens that
were generated. With `spec.scoring.cache` the reward model computes the new step alone.
"""

import argparse

from modelworker import LM, Beam, RMCall, Score

QUESTION = "A box holds 3 red and 4 blue balls. How many balls do 5 such boxes hold?"
SEPARATOR = "\n"
INSTRUCTION = "Solve this step by step, each step on a line of its own.\n\n"


def grow(lm: LM, beams: list[Beam], width: int, max_tokens: int) -> list[Beam]:
    """Each beam with each of `width` next steps; those that are alike once."""
    levels = lm.step(beams, n=width, stop=SEPARATOR, max_tokens=max_tokens, temperature=0.8)
    grown = {child.text: child for children in levels for child in children if child.text.strip()}
    return list(grown.values())


def search(
    lm: LM, rm: RMCall, question: str, *, beams: int, width: int, depth: int, max_tokens: int
) -> tuple[Beam, Score]:
    """The best answer of at most `depth` steps, and its score."""
    root = Beam.start([{"role": "user", "content": INSTRUCTION + question}])
    going, kept = [root], list[tuple[Beam, Score]]()
    for level in range(1, depth + 1):
        grown = grow(lm, going, width, max_tokens)
        if not grown:
            break
        # The session keeps the search on the workers that have its beginning in their caches.
        pairs = [(question, beam.text) for beam in grown]
        scores = rm.score(pairs, separator=SEPARATOR, session=root.session)
        ended = [one for one in kept if one[0].done]
        kept = [*ended, *zip(grown, scores, strict=True)]
        kept = sorted(kept, key=lambda one: one[1], reverse=True)[:beams]
        print(f"level {level}: {len(grown)} answers scored, best {kept[0][1]:.4f}")
        going = [beam for beam, _ in kept if not beam.done]
        if not going:
            break
    if not kept:
        raise SystemExit("the policy answered with nothing; try another question")
    return kept[0]


def main() -> None:
    """Ask the question of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--policy", default="smollm2", help="name of the ModelWorker")
    parser.add_argument("--reward", default="smollm2-prm", help="name of the RewardModel")
    parser.add_argument("--beams", type=int, default=2, help="answers that are kept")
    parser.add_argument("--width", type=int, default=3, help="next steps tried of each")
    parser.add_argument("--depth", type=int, default=5, help="most steps")
    parser.add_argument("--max-tokens", type=int, default=48, help="longest step")
    arguments = parser.parse_args()
    with LM(arguments.policy) as lm, RMCall(arguments.reward) as rm:
        best, score = search(
            lm,
            rm,
            arguments.question,
            beams=arguments.beams,
            width=arguments.width,
            depth=arguments.depth,
            max_tokens=arguments.max_tokens,
        )
    print()
    for step in score.steps:
        print(f"{step.value:.4f}  {best.text[step.start_char : step.end_char].strip()}")


if __name__ == "__main__":
    main()
