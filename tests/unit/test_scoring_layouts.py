"""What each family makes of a question and its steps: the whole input, and what is read."""

from collections.abc import Iterator

import pytest

from modelworker_api.rewards import Family
from modelworker_server.scoring.families.process import MATH_SYSTEM
from modelworker_server.scoring.values import CheckpointFacts, Item
from tests.scoring_support import SPECIALS, FakeTokenizer, LineTokenizer, bound, item, named, shown

TWO = item("One.", "Two")
MATH = f"<im>system\n{MATH_SYSTEM}</im>\n"
YES_NO = (
    "<im>user\nHere is a question and a proposed solution.\n\nQuestion:\nQ?\n\n"
    "Proposed solution:\nOne.\n\nTwo\n\n"
    "Is the proposed solution right? Reply with one word, Yes or No.</im>\n<im>assistant⟦\n⟧"
)
REASONEVAL = "<s>Question:\nQ?\nAnswer:\nLet's think step by step.\n"


@pytest.mark.parametrize(
    ("family", "bos", "text"),
    [
        pytest.param(Family.MATH_SHEPHERD, True, "<s>Q? One.⟦ ки⟧\nTwo⟦ ки⟧\n", id="math-shepherd"),
        pytest.param(
            Family.MATH_PSA, False, "Q? One.⟦ \n\n\n\n\n⟧ Two⟦ \n\n\n\n\n⟧ ", id="math-psa"
        ),
        pytest.param(
            Family.RLHFLOW_PRM_DEEPSEEK,
            False,
            "<im>user\nQ? One.</im>\n<im>assistant⟦\n⟧+</im>\n"
            "<im>user\nTwo</im>\n<im>assistant⟦\n⟧+</im>\n",
            id="rlhflow-prm",
        ),
        pytest.param(
            Family.SKYWORK_PRM, False, "<s>Q?\nOne.⟦\n⟧Two⟦\n⟧", id="skywork-steps-do-not-merge"
        ),
        pytest.param(
            Family.QWEN_MATH_PRM,
            False,
            f"{MATH}<im>user\nQ?</im>\n<im>assistant\nOne.⟦<extra_0>⟧Two⟦<extra_0>⟧</im>\n",
            id="qwen-math-prm",
        ),
        pytest.param(Family.PURE_PRM, False, "Q?One.⟦\n⟧Two⟦\n⟧", id="pure"),
        pytest.param(
            Family.REASONFLUX_PRM,
            False,
            "<im>user\nQ?</im>\n<im>assistant\nOne.⟦<extra_0>⟧Two⟦<extra_0>⟧</im>\n",
            id="reasonflux",
        ),
        pytest.param(
            Family.EURUS_PRM,
            False,
            # One read for each token that is predicted, from the header's new line on.
            "<im>user\nQ?</im>\n<im>⟦assistant⟧⟦\n⟧⟦One⟧⟦.\n\n⟧⟦Two⟧</im>\n",
            id="implicit",
        ),
        pytest.param(Family.REASONEVAL, True, f"{REASONEVAL}⟦One⟧.⟦Tw⟧o", id="reasoneval-7b"),
        pytest.param(
            Family.LLEMMA_PRM,
            True,
            "<s># Question\n\nQ?\n\n# Solution\n\nOne.⟦\n⟧\nTwo⟦\n⟧\n",
            id="llemma",
        ),
        pytest.param(Family.TRL_PRM, False, "<s>Q?One.⟦\n⟧Two⟦\n⟧", id="trl"),
        pytest.param(
            Family.RLHFLOW_ORM_DEEPSEEK,
            False,
            "<im>user\nQ? One.\n\nTwo</im>\n<im>assistant⟦\n⟧+</im>\n",
            id="rlhflow-orm",
        ),
        pytest.param(
            Family.QWEN_MATH_RM,
            False,
            f"{MATH}<im>user\nQ?</im>\n<im>assistant\nOne.\n\nTwo</im>⟦\n⟧",
            id="qwen-math-rm",
        ),
        pytest.param(Family.REASONFLUX_ORM, False, "Q?One.\n\n⟦Two⟧", id="reasonflux-orm"),
        pytest.param(
            Family.OPENRLHF_RM,
            False,
            "<im>user\nQ?</im>\n<im>assistant\nOne.\n\nTwo</im>⟦</s>⟧",
            id="openrlhf",
        ),
        pytest.param(
            Family.SEQUENCE_CLASSIFIER,
            True,
            "<s><im>user\nQ?</im>\n<im>assistant\nOne.\n\nTwo</im>⟦\n⟧",
            id="sequence-classifier",
        ),
        pytest.param(
            Family.INTERNLM2_REWARD,
            True,
            "<s><im>user\nQ?</im>\n<im>assistant\nOne.\n\nTwo</im>\n⟦<|reward|>⟧",
            id="internlm2",
        ),
        pytest.param(Family.VERDICT, False, YES_NO, id="verdict"),
    ],
)
def test_layout(family: Family, bos: bool, text: str) -> None:
    tokenizer = PIECEWISE if family in SMALL_PIECES else FakeTokenizer
    made = tokenizer(bos=bos)
    layout = bound(named(family), made).lay_out(TWO)
    assert shown(made, layout) == text


class _SmallPieces(LineTokenizer):
    """The end of `Two` is a token of its own as well."""

    def split(self, text: str) -> Iterator[tuple[int, int]]:
        for start, end in super().split(text):
            if text[start:end] == "Two":
                yield start, end - 1
                yield end - 1, end
            else:
                yield start, end


PIECEWISE = _SmallPieces
SMALL_PIECES = {Family.REASONEVAL, Family.LLEMMA_PRM}


def test_armo_reads_the_gate_where_the_answer_header_begins() -> None:
    made = _Llama3Like()
    layout = bound(named(Family.ARMO_RM), made).lay_out(TWO)
    assert shown(made, layout) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nQ?⟦<|eot_id|>⟧"
        "<|start_header_id|>assistant<|end_header_id|>\n\nOne.\n\nTwo⟦<|eot_id|>⟧"
    )
    (place,) = layout.places
    assert layout.reads[place.read] == len(layout.token_ids) - 1


class _Llama3Like(FakeTokenizer):
    """Llama 3's chat template, its header names being tokens."""

    def __init__(self) -> None:
        headers = ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
        super().__init__(bos=True, specials=(*SPECIALS, *headers))

    def render(self, turns, *, add_generation_prompt=False):  # type: ignore[no-untyped-def]
        return "<s>" + "".join(
            f"<|start_header_id|>{role}<|end_header_id|>\n\n{content.strip()}<|eot_id|>"
            for role, content in turns
        )


# --- where the steps are -------------------------------------------------------------


@pytest.mark.parametrize("family", [Family.MATH_SHEPHERD, Family.RLHFLOW_PRM_MISTRAL])
def test_place_has_the_callers_characters_and_the_steps_tokens(family: Family) -> None:
    made = FakeTokenizer(bos=True)
    given = Item((("user", "Q?"),), "  One ки one  \n\n Two", ((0, 14), (16, 20)))
    layout = bound(named(family), made).lay_out(given)
    assert [place.chars for place in layout.places] == [(0, 14), (16, 20)]
    texts = ["".join(made.pieces(layout.token_ids[slice(*p.tokens)])) for p in layout.places]
    assert [text.strip() for text in texts] == ["One ки one", "Two"]
    assert layout.shared == layout.places[0].tokens[0]


def test_tag_in_a_steps_own_text_gives_no_score() -> None:
    made = FakeTokenizer()
    layout = bound(named(Family.QWEN_MATH_PRM), made).lay_out(item("a<extra_0>b", "c"))
    assert shown(made, layout).endswith("\na<extra_0>b⟦<extra_0>⟧c⟦<extra_0>⟧</im>\n")


@pytest.mark.parametrize(
    ("messages", "head"),
    [
        pytest.param((("user", "Q"),), MATH, id="recipes-own"),
        pytest.param((("system", "S"), ("user", "Q")), "<im>system\nS</im>\n", id="callers"),
    ],
)
def test_callers_system_message_stands_in_for_the_recipes(
    messages: tuple[tuple[str, str], ...], head: str
) -> None:
    made = FakeTokenizer()
    given = Item(messages, "One", ((0, 3),))
    layout = bound(named(Family.QWEN_MATH_PRM), made).lay_out(given)
    assert shown(made, layout).startswith(f"{head}<im>user\nQ</im>")


@pytest.mark.parametrize("family", [Family.SEQUENCE_CLASSIFIER, Family.RLHFLOW_ORM_DEEPSEEK])
@pytest.mark.parametrize(
    ("trims", "end"),
    [pytest.param(True, "One", id="trims"), pytest.param(False, "One \n", id="keeps")],
)
def test_template_decides_on_the_white_space_at_an_answers_end(
    family: Family, trims: bool, end: str
) -> None:
    made = FakeTokenizer(trims=trims)
    given = Item((("user", "Q?"),), "One \n", ((0, 5),))
    assert f"{end}</im>" in shown(made, bound(named(family), made).lay_out(given))


def test_answer_that_the_template_rewrites_is_still_read_at_the_end() -> None:
    class Rewriting(FakeTokenizer):
        def render(self, turns, *, add_generation_prompt=False):  # type: ignore[no-untyped-def]
            text = super().render(turns, add_generation_prompt=add_generation_prompt)
            return text.replace("<think>a</think>", "")

    made = Rewriting()
    layout = bound(named(Family.SEQUENCE_CLASSIFIER), made).lay_out(item("<think>a</think>b"))
    assert shown(made, layout) == "<im>user\nQ?</im>\n<im>assistant\nb</im>⟦\n⟧"


def test_34b_reads_a_steps_last_token() -> None:
    made = FakeTokenizer(bos=True)
    facts = CheckpointFacts(model_type="llama", num_labels=3)
    layout = bound(named(Family.REASONEVAL), made, facts).lay_out(TWO)
    assert shown(made, layout) == f"{REASONEVAL}One⟦.⟧⟦Two⟧"
