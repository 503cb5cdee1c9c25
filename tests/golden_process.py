"""How the references of the process reward models score: tokens, positions, formula.

Each `lay_*` writes the input as the reference does and says which states are read; each
`*_score` is the reference's formula on them. Nothing here knows the worker's code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.golden_models import Tiny
from tests.golden_tokenizers import MATH_SYSTEM, Files


@dataclass(frozen=True, slots=True)
class Laid:
    """Token ids, and the positions that give the scores; sums begin at `start`."""

    ids: list[int]
    reads: list[int]
    start: int = 0


Lay = Callable[[Files, str, Sequence[str]], Laid]
Score = Callable[[Tiny, Files, Laid, Tensor], list[float]]
"""From the states of the whole input, shape (tokens, hidden)."""


# --- inputs --------------------------------------------------------------------------


def lay_math_shepherd(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """`{question} {steps}`, each step stripped and ended by ` ки` and a new line."""
    pieces = [f"{step.strip()} ки\n" for step in steps]
    laid = _at_tags(files, f"{question} ", pieces, ends=len("\n"))
    return Laid([files.id("<s>"), *laid.ids], [read + 1 for read in laid.reads])


def lay_math_psa(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """The same with five new lines, between spaces, as the tag."""
    pieces = [f"{step.strip()} \n\n\n\n\n " for step in steps]
    return _at_tags(files, f"{question} ", pieces, ends=len(" "))


def _at_tags(files: Files, head: str, pieces: Sequence[str], *, ends: int) -> Laid:
    """The text's tokens, read at the token that its beginning up to each tag ends with."""
    whole = files.ids(head + "".join(pieces))
    reads = []
    for count in range(1, len(pieces) + 1):
        text = head + "".join(pieces[:count])
        beginning = files.ids(text[: len(text) - ends])
        assert whole[: len(beginning)] == beginning
        reads.append(len(beginning) - 1)
    assert len({whole[read] for read in reads}) == 1, "the tag is not the same token everywhere"
    return Laid(whole, reads)


def lay_rlhflow(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A turn for each step, each answered `+`; read where that answer is predicted."""
    turns: list[tuple[str, str]] = []
    reads: list[int] = []
    ids: list[int] = []
    for step in steps:
        text = step.strip()
        turns += [("user", text if turns else f"{question} {text}"), ("assistant", "+")]
        longer = files.chat_ids(*turns)
        assert longer[: len(ids)] == ids
        ids = longer
        reads.append(len(ids) - 3)
    return Laid(ids, reads)


def lay_skywork(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """BOS and the question, then each step's own tokens and a new line's."""
    ids = [files.id("<|endoftext|>"), *files.ids(f"{question}\n")]
    return _step_by_step(files, ids, steps, "\n")


def lay_pure(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """The question, then each step's own tokens and a new line's: nothing else between."""
    return _step_by_step(files, files.ids(question), steps, "\n")


def trl(separator: str, bos: str | None) -> Lay:
    """TRL's, with a separator that its checkpoints do not record."""

    def lay(files: Files, question: str, steps: Sequence[str]) -> Laid:
        first = [] if bos is None else [files.id(bos)]
        return _step_by_step(files, [*first, *files.ids(question)], steps, separator)

    return lay


def _step_by_step(files: Files, ids: list[int], steps: Sequence[str], separator: str) -> Laid:
    ids, reads = list(ids), []
    for step in steps:
        ids += files.ids(step) + files.ids(separator)
        reads.append(len(ids) - 1)
    return Laid(ids, reads)


def lay_qwen_math(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat with Qwen's mathematics system message; `<extra_0>` after each step."""
    context = (("system", MATH_SYSTEM), ("user", question))
    return _chat_tags(files, context, [f"{step}<extra_0>" for step in steps])


def lay_reasonflux(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """The same with the template's own system message."""
    return _chat_tags(files, (("user", question),), [f"{step}<extra_0>" for step in steps])


def lay_before_tags(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat with `<|reward|>` after each step, read at the token before."""
    laid = _chat_tags(files, (("user", question),), [f"{step}<|reward|>" for step in steps])
    return Laid(laid.ids, [read - 1 for read in laid.reads])


def _chat_tags(files: Files, context: tuple[tuple[str, str], ...], pieces: Sequence[str]) -> Laid:
    ids = files.chat_ids(*context, ("assistant", "".join(pieces)))
    reads = []
    for count in range(1, len(pieces) + 1):
        text = files.chat(*context, ("assistant", "".join(pieces[:count])))
        beginning = files.ids(text.removesuffix("<|im_end|>\n"))
        assert ids[: len(beginning)] == beginning
        reads.append(len(beginning) - 1)
    assert len({ids[read] for read in reads}) == 1, "the tag is not the same token everywhere"
    return Laid(ids, reads)


def lay_step_ends(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """Question and answer as they are, read at the last token of each step."""
    head = f"Q: {question}\nA: "
    ids = files.ids(head + "\n\n".join(steps))
    reads = []
    for count in range(1, len(steps) + 1):
        beginning = files.ids(head + "\n\n".join(steps[:count]))
        assert ids[: len(beginning)] == beginning
        reads.append(len(beginning))
    return Laid([files.id("<s>"), *ids], reads)


def lay_implicit(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat; a step's position is two before the end of the chat that ends with it.

    That chat is stripped, and has two new lines after it where a step follows.
    """
    ids = files.chat_ids(("user", question), ("assistant", "\n\n".join(steps)))
    ends = []
    for count in range(len(steps) + 1):
        text = files.chat(("user", question), ("assistant", "\n\n".join(steps[:count]))).strip()
        if 0 < count < len(steps):
            text += "\n\n"
        ends.append(len(files.ids(text)) - 2)
    return Laid(ids, ends[1:], start=ends[0])


def reasoneval(*, first_bos_is_separator: bool) -> Lay:
    """ReasonEval's: a separator token after the question and each step finds the ends.

    The 7B separates by BOS, so the BOS in front counts as a separator and is put back
    later: its positions are one token early. The 34B has a separator of its own.
    """

    def lay(files: Files, question: str, steps: Sequence[str]) -> Laid:
        mark: str = files.plain.pad_token
        head = f"Question:\n{question}\nAnswer:\nLet's think step by step.\n"
        marked = [files.id("<s>"), *files.ids(head + mark + "".join(s + mark for s in steps))]
        ids: list[int] = []
        ends: list[int] = []
        for token in marked:
            if token == files.id(mark):
                ends.append(len(ids) - 1)
            else:
                ids.append(token)
        if first_bos_is_separator:
            return Laid([files.id("<s>"), *ids], ends[2:])
        return Laid(ids, ends[1:])

    return lay


def lay_llemma(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """Headings in Markdown; read at the first of the two new lines behind each step."""
    plain = [step.strip().replace("\n\n", "") for step in steps]
    text = f"# Question\n\n{question}\n\n# Solution\n\n" + "".join(f"{s}\n\n" for s in plain)
    ids = [files.id("<s>"), *files.ids(text)]
    heading, pair = files.ids("# Solution")[1:], files.ids("\n\n")[1:]
    solution = next(i for i in range(len(ids)) if ids[i : i + len(heading)] == heading)
    found = [i for i in range(solution, len(ids)) if ids[i : i + len(pair)] == pair]
    assert len(found) == len(steps) + 1
    return Laid(ids, found[1:])


# --- formulas ------------------------------------------------------------------------


def candidates(text: str) -> Score:
    """Probability of the first of two tokens, which are the last two of a text."""

    def score(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
        pair = files.ids(text)[-2:]
        logits: Tensor = model.heads["lm_head"](states[laid.reads])[:, pair]
        return _list(logits.softmax(-1)[:, 0])

    return score


def plus_or_minus(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """Probability of `+` against `-`, each encoded alone."""
    pair = [files.ids("+")[-1], files.ids("-")[-1]]
    logits: Tensor = model.heads["lm_head"](states[laid.reads])[:, pair]
    return _list(logits.softmax(-1)[:, 0])


def value_sigmoid(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """The sigmoid of a value head."""
    value: Tensor = model.heads["v_head.summary"](states[laid.reads])
    return _list(value.squeeze(-1).sigmoid())


def second_label(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """Probability of label 1 of two."""
    return _list(_labels(model, "score", laid, states)[:, 1])


def label_difference(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """Probability of label 1 minus that of label 0."""
    found = _labels(model, "score", laid, states)
    return _list(found[:, 1] - found[:, 0])


def validity(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """ReasonEval's validity: the positive and the neutral label."""
    found = _labels(model, "score_head", laid, states)
    return _list(found[:, 1] + found[:, 2])


def redundancy(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """ReasonEval's redundancy: the neutral label."""
    return _list(_labels(model, "score_head", laid, states)[:, 1])


def _labels(model: Tiny, head: str, laid: Laid, states: Tensor) -> Tensor:
    found: Tensor = model.heads[head](states[laid.reads]).softmax(-1)
    return found


def vocabulary_mean(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """The sigmoid of the mean logit."""
    return _list(model.heads["lm_head"](states[laid.reads]).mean(-1).sigmoid())


@dataclass(frozen=True, slots=True)
class LogRatio:
    """An implicit reward: beta times the sum of log p(model) - log p(reference) so far."""

    beta: float
    cumulative: bool = True
    """The sum up to each step, or else what each step added to it."""

    def __call__(
        self, models: tuple[Tiny, Tiny], laid: Laid, states: tuple[Tensor, Tensor]
    ) -> list[float]:
        """Entry t of the sum is of the token after t; the one at `start` is the first to count."""
        following = torch.tensor(laid.ids[1:])[:, None]
        ours, theirs = (
            model.heads["lm_head"](rows[:-1]).log_softmax(-1).gather(1, following)[:, 0]
            for model, rows in zip(models, states, strict=True)
        )
        counted = torch.arange(1, len(laid.ids)) >= laid.start
        sums = (self.beta * (ours - theirs) * counted).cumsum(0)[laid.reads]
        return _list(sums if self.cumulative else sums.diff(prepend=torch.zeros(1)))


def _list(found: Tensor) -> list[float]:
    numbers: list[float] = found.tolist()
    return numbers
