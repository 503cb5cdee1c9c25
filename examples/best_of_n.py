"""Best of n: sample answers to a question, score the steps of each, keep the best.

Needs a ModelWorker and a RewardModel in the current cluster, such as those of smollm2.yaml
and smollm2-prm.yaml.
"""

import argparse

from modelworker import LM, RMCall, Score

QUESTION = "A box holds 3 red and 4 blue balls. How many balls do 5 such boxes hold?"
INSTRUCTION = "Solve this step by step, each step on a line of its own.\n\n"


def best_of_n(lm: LM, rm: RMCall, question: str, n: int, max_tokens: int) -> tuple[str, Score]:
    """The answer with the highest score, after printing every answer's steps."""
    prompt = [{"role": "user", "content": INSTRUCTION + question}]
    answers = lm.chat(prompt, n=n, max_tokens=max_tokens, temperature=0.8, seed=1).texts
    scores: dict[int, Score] = {}
    # Answers are scored in any order; a failed one is an error, never a made-up score.
    for index, score in rm.submit([(question, answer) for answer in answers]).as_completed():
        if isinstance(score, Score):
            scores[index] = score
            show(f"answer {index}", answers[index], score)
        else:
            print(f"answer {index} has no score: {score}")
    if not scores:
        raise SystemExit("no answer could be scored")
    best = max(scores, key=lambda index: scores[index])
    return answers[best], scores[best]


def show(title: str, answer: str, score: Score) -> None:
    """Print each step with its score."""
    print(f"{title}: {score:.4f} ({score.aggregation} of {len(score.steps)} steps)")
    for step in score.steps:
        text = answer[step.start_char : step.end_char].strip()
        print(f"    {step.value:.4f}  {text if len(text) < 80 else text[:79] + '…'}")


def main() -> None:
    """Ask the question of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--policy", default="smollm2", help="name of the ModelWorker")
    parser.add_argument("--reward", default="smollm2-prm", help="name of the RewardModel")
    parser.add_argument("-n", type=int, default=8, help="answers to sample")
    parser.add_argument("--max-tokens", type=int, default=96, help="longest answer")
    arguments = parser.parse_args()
    with LM(arguments.policy) as lm, RMCall(arguments.reward) as rm:
        answer, score = best_of_n(
            lm, rm, arguments.question, arguments.n, max_tokens=arguments.max_tokens
        )
        print()
        show("best", answer, score)


if __name__ == "__main__":
    main()
