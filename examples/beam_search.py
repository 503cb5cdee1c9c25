"""Beam search over steps: grow answers step by step, keep those whose steps score best.

Needs a ModelWorker and a RewardModel in the current cluster, such as those of smollm2.yaml
and smollm2-prm.yaml. With `spec.scoring.cache` the reward model computes the new step alone.
"""

import argparse
from dataclasses import dataclass

from modelworker import LM, RMCall, Score

QUESTION = "A box holds 3 red and 4 blue balls. How many balls do 5 such boxes hold?"
INSTRUCTION = "Solve this step by step, each step on a line of its own.\n\n"


@dataclass(frozen=True)
class Beam:
    """An answer so far. `done` says that the model ended it."""

    steps: tuple[str, ...] = ()
    score: Score | None = None
    done: bool = False


def grow(lm: LM, question: str, beam: Beam, width: int, max_tokens: int) -> list[Beam]:
    """The beam with each of `width` next steps; those that are alike once."""
    messages = [{"role": "user", "content": INSTRUCTION + question}]
    if beam.steps:
        messages.append({"role": "assistant", "content": "\n".join(beam.steps) + "\n"})
    sampled = lm.chat(
        messages,
        continue_final_message=bool(beam.steps),
        n=width,
        max_tokens=max_tokens,
        temperature=0.8,
        stop="\n",
    )
    children = {}
    for sample in sampled.samples:
        if text := sample.text.strip():
            # Without a stop string the model ended the answer, or ran into max_tokens.
            children[text] = Beam((*beam.steps, text), done=sample.stop_reason is None)
    return list(children.values())


def search(
    lm: LM, rm: RMCall, question: str, *, beams: int, width: int, depth: int, max_tokens: int
) -> Beam:
    """The best answer of at most `depth` steps."""
    kept = [Beam()]
    for level in range(1, depth + 1):
        going = [beam for beam in kept if not beam.done]
        grown = [child for b in going for child in grow(lm, question, b, width, max_tokens)]
        if not grown:
            break
        scores = rm.score([(question, beam.steps) for beam in grown])
        scored = [
            Beam(beam.steps, score, beam.done) for beam, score in zip(grown, scores, strict=True)
        ]
        ended = [beam for beam in kept if beam.done]
        kept = sorted([*scored, *ended], key=lambda beam: beam.score or 0.0, reverse=True)[:beams]
        best = kept[0]
        print(f"level {level}: {len(grown)} answers scored, best {best.score:.4f}")
    if not kept[0].steps:
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
        best = search(
            lm,
            rm,
            arguments.question,
            beams=arguments.beams,
            width=arguments.width,
            depth=arguments.depth,
            max_tokens=arguments.max_tokens,
        )
    print()
    for step, score in zip(best.steps, best.score.steps if best.score else (), strict=True):
        print(f"{score.value:.4f}  {step}")


if __name__ == "__main__":
    main()
