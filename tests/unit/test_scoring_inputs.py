"""Inputs that need care: BOS, texts with tags in them, what is refused, what is too long."""

import pytest

from modelworker_api.rewards import Family, Overflow, ScoringConfig
from modelworker_server.errors import BadRequest, ContextTooLong, StepMismatch, Unsupported
from modelworker_server.scoring.values import Item, Templated
from tests.scoring_support import FakeTokenizer, bound, item, named, shown

TWO = item("One.", "Two")

# --- BOS -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(Templated("a b"), "<s>a⟦ b⟧", id="text-without"),
        pytest.param(Templated("<s>a b"), "<s>a⟦ b⟧", id="text-with"),
        pytest.param(Templated("<s><s>a b"), "<s>a⟦ b⟧", id="text-with-two"),
        pytest.param(
            item("A"), "<s><im>user\nQ?</im>\n<im>assistant\nA</im>⟦\n⟧", id="chat-template-with"
        ),
    ],
)
def test_bos_is_there_exactly_once(given: Item | Templated, text: str) -> None:
    made = FakeTokenizer(bos=True)
    layout = bound(named(Family.SEQUENCE_CLASSIFIER), made).lay_out(given)
    assert shown(made, layout) == text


@pytest.mark.parametrize(
    ("family", "given", "text"),
    [
        pytest.param(Family.OPENRLHF_RM, "a", "a⟦</s>⟧", id="eos-appended"),
        pytest.param(Family.OPENRLHF_RM, "a</s>\n", "a⟦</s>⟧", id="eos-there"),
        pytest.param(Family.INTERNLM2_REWARD, "a<|reward|>", "a⟦<|reward|>⟧", id="reward-there"),
    ],
)
def test_templated_text_ends_with_the_token_that_is_read(
    family: Family, given: str, text: str
) -> None:
    made = FakeTokenizer()
    assert shown(made, bound(named(family), made).lay_out(Templated(given))) == text


# --- texts with tags -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "text", "steps"),
    [
        pytest.param(Family.MATH_SHEPHERD, "Q? a ки\nb ки", ["Q? a ", "\nb "], id="math-shepherd"),
        pytest.param(Family.MATH_SHEPHERD, "Q? a ки\nb", ["Q? a "], id="rest-is-no-step"),
        pytest.param(Family.MATH_SHEPHERD, "Q? a ки ки", ["Q? a ", " "], id="two-tags-in-a-row"),
        pytest.param(Family.MATH_SHEPHERD, "Q? a кино", None, id="word-that-begins-so"),
        pytest.param(Family.MATH_SHEPHERD, "Q? a", None, id="no-tag"),
        pytest.param(
            Family.MATH_PSA, "Q? a \n\n\n\n\n b \n\n\n\n\n", ["Q? a", " b"], id="math-psa"
        ),
    ],
)
def test_tags_in_a_text(family: Family, text: str, steps: list[str] | None) -> None:
    layout = bound(named(family), FakeTokenizer(bos=True)).lay_out_tagged(text)
    found = layout and [text[slice(*place.chars)] for place in layout.places]
    assert found == steps


def test_tags_in_a_text_are_read_where_they_are() -> None:
    made = FakeTokenizer(bos=True)
    layout = bound(named(Family.MATH_SHEPHERD), made).lay_out_tagged("Q? a ки\nb ки")
    assert layout is not None
    assert shown(made, layout) == "<s>Q? a⟦ ки⟧\nb⟦ ки⟧"


def test_glued_tag_names_its_step() -> None:
    scorer = bound(named(Family.MATH_SHEPHERD), FakeTokenizer())
    with pytest.raises(StepMismatch, match="after step 1") as caught:
        scorer.lay_out_tagged("Q? a ки\nwordки\n")
    assert caught.value.step == 1


@pytest.mark.parametrize(
    "family", [Family.QWEN_MATH_PRM, Family.SKYWORK_PRM, Family.EURUS_PRM, Family.VERDICT]
)
def test_recipe_whose_tags_stand_in_no_text_says_so(family: Family) -> None:
    with pytest.raises(Unsupported, match="/v1/rewards"):
        bound(named(family), FakeTokenizer()).lay_out_tagged("a<extra_0>")


# --- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [
        Family.MATH_SHEPHERD,
        Family.RLHFLOW_PRM_MISTRAL,
        Family.SKYWORK_PRM,
        Family.EURUS_PRM,
        Family.REASONEVAL,
        Family.RLHFLOW_ORM_MISTRAL,
        Family.VERDICT,
    ],
)
def test_templated_text_is_refused_where_the_recipe_writes_all(family: Family) -> None:
    with pytest.raises(BadRequest, match="question and response"):
        bound(named(family), FakeTokenizer()).lay_out(Templated("a"))


@pytest.mark.parametrize(
    "family", [Family.MATH_SHEPHERD, Family.RLHFLOW_PRM_MISTRAL, Family.SKYWORK_PRM, Family.VERDICT]
)
def test_conversation_is_refused_where_there_is_room_for_one_question(family: Family) -> None:
    given = Item((("system", "S"), ("user", "Q")), "A", ((0, 1),))
    with pytest.raises(BadRequest, match="system, user"):
        bound(named(family), FakeTokenizer()).lay_out(given)


def test_tag_that_merges_names_its_step() -> None:
    custom = {
        "step_tag": "\n\n",
        "positive_token": "+",
        "negative_token": "-",
        "position": "Tag",
        "link": "Softmax",
    }
    config = ScoringConfig.model_validate({"type": "Process", "family": "Custom", "custom": custom})
    scorer = bound(config, FakeTokenizer())
    with pytest.raises(StepMismatch, match="merges with what is next to it") as caught:
        scorer.lay_out(item("One", "Two.", "Three"))
    assert caught.value.step == 1


# --- length --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        pytest.param(8, "<s>What is it? One⟦ ки⟧\n", id="fits"),
        pytest.param(6, "<s> it? One⟦ ки⟧\n", id="truncated"),
        pytest.param(4, "<s> One⟦ ки⟧\n", id="all-but-the-step"),
    ],
)
def test_truncation_drops_the_beginning_and_keeps_bos(limit: int, text: str) -> None:
    made = FakeTokenizer(bos=True)
    config = named(Family.MATH_SHEPHERD, overflow=Overflow.TRUNCATE_LEFT)
    layout = bound(config, made, max_tokens=limit).lay_out(item("One", question="What is it?"))
    assert shown(made, layout) == text
    assert layout.truncated is (limit < 8)
    (place,) = layout.places
    assert made.pieces(layout.token_ids[slice(*place.tokens)]) == [" One"]


def test_truncation_never_cuts_into_a_step() -> None:
    config = named(Family.MATH_SHEPHERD, overflow=Overflow.TRUNCATE_LEFT)
    scorer = bound(config, FakeTokenizer(bos=True), max_tokens=4)
    with pytest.raises(ContextTooLong, match=r"maximum context length.* step 0"):
        scorer.lay_out(item("One two three"))


def test_truncation_never_drops_a_read_that_is_summed() -> None:
    config = named(Family.EURUS_PRM, overflow=Overflow.TRUNCATE_LEFT)
    whole = bound(config, FakeTokenizer()).lay_out(TWO)
    most = len(whole.token_ids) - whole.reads[0]
    layout = bound(config, FakeTokenizer(), max_tokens=most).lay_out(TWO)
    assert layout.reads[0] == 0
    with pytest.raises(ContextTooLong, match="tokens that are scored"):
        bound(config, FakeTokenizer(), max_tokens=most - 1).lay_out(TWO)


@pytest.mark.parametrize(
    "family", [Family.MATH_SHEPHERD, Family.SEQUENCE_CLASSIFIER, Family.SKYWORK_PRM]
)
def test_too_long_an_input_is_refused(family: Family) -> None:
    scorer = bound(named(family), FakeTokenizer(), max_tokens=3)
    with pytest.raises(ContextTooLong, match="maximum context length is 3 tokens"):
        scorer.lay_out(TWO)


def test_too_long_a_tagged_text_is_refused() -> None:
    scorer = bound(named(Family.MATH_SHEPHERD), FakeTokenizer(), max_tokens=3)
    with pytest.raises(ContextTooLong, match="maximum context length"):
        scorer.lay_out_tagged("a b c d ки")
