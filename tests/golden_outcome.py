"""How the references of the outcome reward models score; see golden_process.py."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.golden_models import HIDDEN, Gating, Heads, Matrix, Tiny, spread
from tests.golden_process import Laid
from tests.golden_tokenizers import MATH_SYSTEM, Files

OBJECTIVES = 19
TEMPERATURE = 10.0

# --- inputs: all are read at one position --------------------------------------------


def joined(steps: Sequence[str]) -> str:
    """The whole answer."""
    return "\n\n".join(steps)


def lay_orm_mistral(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """One turn with question and answer, answered `+`; the answer's tags are taken out."""
    answer = joined(steps).replace(" ки", "")
    return _predicts_plus(files, f"{question} {answer}")


def lay_orm_deepseek(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """The same with the answer as it is."""
    return _predicts_plus(files, f"{question} {joined(steps)}")


def _predicts_plus(files: Files, text: str) -> Laid:
    ids = files.chat_ids(("user", text), ("assistant", "+"))
    return Laid(ids, [len(ids) - 3])


def lay_qwen_math_rm(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat with Qwen's mathematics system message, read at its last token, a new line."""
    turns = (("system", MATH_SYSTEM), ("user", question), ("assistant", joined(steps)))
    ids = files.chat_ids(*turns)
    assert ids[-1] == files.id("Ċ")
    return _last(ids)


def lay_reasonflux_orm(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """Question and answer with nothing between."""
    return _last(files.ids(question + joined(steps)))


def lay_openrlhf(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat without the new line after it: the last token is EOS."""
    text = files.chat(("user", question), ("assistant", joined(steps))).rstrip("\n")
    ids = files.ids(text)
    assert ids[-1] == files.plain.eos_token_id
    return _last(ids)


def lay_chat(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat to its end, with one BOS at most."""
    ids = files.chat_ids(("user", question), ("assistant", joined(steps)))
    assert ids.count(files.plain.bos_token_id) == 1
    return _last(ids)


def lay_internlm2(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat and the reward token."""
    ids = files.chat_ids(("user", question), ("assistant", joined(steps)))
    return _last([*ids, files.id("<|reward|>")])


def lay_verdict(files: Files, question: str, steps: Sequence[str]) -> Laid:
    """A chat model is asked about the answer; read where its reply begins."""
    text = (
        "Here is a question and a proposed solution.\n\n"
        f"Question:\n{question}\n\nProposed solution:\n{joined(steps)}\n\n"
        "Is the proposed solution right? Reply with one word, Yes or No."
    )
    return _last(files.ids(files.chat(("user", text), add_generation_prompt=True)))


def _last(ids: list[int]) -> Laid:
    return Laid(ids, [len(ids) - 1])


# --- formulas ------------------------------------------------------------------------


def first_output(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """The number that the one head gives, as it is."""
    (head,) = (module for name, module in model.heads.items() if name != "lm_head")
    return [head(states[laid.reads]).item()]


def yes_or_no(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """Probability of `Yes` against `No` as the next token."""
    pair = [files.id("Yes"), files.id("No")]
    logits: Tensor = model.heads["lm_head"](states[laid.reads[0]])[pair]
    return [logits.softmax(-1)[0].item()]


def first_sigmoid(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """The sigmoid of a classification head's first label."""
    labels: Tensor = model.heads["score"](states[laid.reads[0]])
    return [labels[0].sigmoid().item()]


def sigmoid_output(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """Its sigmoid."""
    (found,) = first_output(model, files, laid, states)
    return [torch.tensor(found).sigmoid().item()]


def armo_heads(_: int) -> Heads:
    """ArmoRM's: rewards of the objectives, a matrix that corrects them, a gate."""
    return {
        "regression_layer": spread(nn.Linear(HIDDEN, OBJECTIVES, bias=False)),
        "gating": spread(Gating(OBJECTIVES, hidden=24, layers=3), 0.6),
        "reward_transform_matrix": Matrix(OBJECTIVES),
    }


def armo_score(model: Tiny, files: Files, laid: Laid, states: Tensor) -> list[float]:
    """The objectives' rewards, transformed and weighted by a gate.

    The gate sees the state of the token that opens the last
    `<|eot_id|><|start_header_id|>assistant<|end_header_id|>` and two new lines.
    """
    pattern = [128009, 128006, 78191, 128007, 271]
    gate = max(i for i in range(len(laid.ids)) if laid.ids[i : i + 5] == pattern)
    rewards: Tensor = model.heads["regression_layer"](states[laid.reads[0]])
    rewards = model.heads["reward_transform_matrix"](rewards)
    weights: Tensor = model.heads["gating"](states[gate], TEMPERATURE)
    return [(weights * rewards).sum().item()]
