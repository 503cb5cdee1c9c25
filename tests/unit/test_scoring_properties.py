"""What holds for every family and every text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_api.rewards import Family, Overflow, ScoreType, ScoringConfig
from modelworker_server.errors import ContextTooLong
from modelworker_server.scoring.recipes import RECIPES
from modelworker_server.scoring.steps import split
from modelworker_server.scoring.values import CheckpointFacts, Item, Layout, Scorer
from tests.scoring_support import FakeTokenizer, LineTokenizer, bound, named

PROCESS = sorted(f for f, recipe in RECIPES.items() if recipe.type is ScoreType.PROCESS)
# ArmoRM's header is laid out by Llama 3's template alone.
OUTCOME = sorted(
    family
    for family, recipe in RECIPES.items()
    if recipe.type is ScoreType.OUTCOME and family is not Family.ARMO_RM
)
_STEP_ENDS = {
    "text": "Q: {question}\nA: {response}",
    "label_index": 0,
    "position": "LastTokenOfStep",
    "link": "Sigmoid",
}

PIECES = st.sampled_from(
    (
        *("a", "The sum", " is", "12", ".", "!?", "+", "é", "日本", "😀"),
        *(" ", "\n", "\n\n", " \n\n\n\n\n", "\u00a0", "\u2028"),
        *("ки", " ки\n", "<extra_0>", "</s>", "<s>", "{question}", "{response}"),
    )
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
WORDS = st.lists(st.sampled_from(["a", "the", "1", "+", "日本"]), min_size=1, max_size=4).map(
    " ".join
)
STEPS = st.lists(TEXTS.filter(str.strip), min_size=1, max_size=5)


def tokenizer_for(family: Family) -> FakeTokenizer:
    bos = family in {Family.MATH_SHEPHERD, Family.LLEMMA_PRM, Family.REASONEVAL}
    return (LineTokenizer if family is Family.LLEMMA_PRM else FakeTokenizer)(bos=bos)


def item_of(scorer: Scorer, question: str, steps: list[str]) -> Item:
    """The steps in a response, with separators at both ends and a blank piece between two."""
    separator = "§§" if scorer.info.step_separator in "".join(steps) else scorer.info.step_separator
    response = separator + f"{separator} {separator}".join(steps) + separator
    return Item((("user", question),), response, split(response, separator))


def check(layout: Layout, places: int) -> None:
    reads = layout.reads
    assert len(layout.places) == places
    assert list(reads) == sorted(set(reads))
    assert reads[0] >= 0
    assert reads[-1] < len(layout.token_ids)
    used = [place.read for place in layout.places]
    assert used == sorted(used)
    assert used[-1] < len(reads)
    assert all(0 <= a <= b <= len(layout.token_ids) for a, b in (p.tokens for p in layout.places))
    assert 0 <= layout.shared <= layout.places[0].tokens[0]


@pytest.mark.parametrize("family", PROCESS)
@settings(max_examples=40, deadline=None)
@given(question=TEXTS, steps=STEPS)
def test_each_step_has_one_place(family: Family, question: str, steps: list[str]) -> None:
    scorer = bound(named(family), tokenizer_for(family))
    item = item_of(scorer, question, steps)
    layout = scorer.lay_out(item)
    check(layout, len(item.spans))
    assert [place.chars for place in layout.places] == list(item.spans)


@pytest.mark.parametrize("family", PROCESS)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_a_steps_tokens_hold_the_step(family: Family, steps: list[str]) -> None:
    made = tokenizer_for(family)
    scorer = bound(named(family), made)
    layout = scorer.lay_out(item_of(scorer, "Q?", steps))
    for place, step in zip(layout.places, steps, strict=True):
        text = "".join(made.pieces(layout.token_ids[slice(*place.tokens)]))
        kept = step.strip()
        if family is Family.LLEMMA_PRM:
            kept = kept.replace("\n\n", "")
        # A space at the end may have no token of its own; "ки" may be shown with one.
        assert kept.replace(" ", "") in text.replace(" ", "")


@pytest.mark.parametrize("family", OUTCOME)
@settings(max_examples=40, deadline=None)
@given(question=TEXTS, steps=STEPS)
def test_a_whole_answer_has_one_place(family: Family, question: str, steps: list[str]) -> None:
    scorer = bound(named(family), tokenizer_for(family))
    item = item_of(scorer, question, steps)
    layout = scorer.lay_out(item)
    check(layout, 1)
    assert layout.places[0].chars == (0, len(item.response))


@settings(max_examples=40, deadline=None)
@given(question=TEXTS, steps=STEPS)
def test_custom_step_ends_are_read_once_each(question: str, steps: list[str]) -> None:
    made = FakeTokenizer()
    config = ScoringConfig.model_validate(
        {"type": "Process", "family": "Custom", "custom": _STEP_ENDS}
    )
    scorer = bound(config, made, facts=CheckpointFacts(num_labels=1))
    item = item_of(scorer, question, steps)
    check(scorer.lay_out(item), len(item.spans))


@settings(max_examples=40, deadline=None)
@given(question=WORDS, steps=st.lists(WORDS, min_size=1, max_size=4))
@pytest.mark.parametrize(
    ("family", "tag"), [(Family.MATH_SHEPHERD, " ки\n"), (Family.MATH_PSA, " \n\n\n\n\n ")]
)
def test_text_with_tags_is_laid_out_as_its_steps_are(
    family: Family, tag: str, question: str, steps: list[str]
) -> None:
    scorer = bound(named(family), tokenizer_for(family))
    layout = scorer.lay_out(item_of(scorer, question, steps))
    tagged = scorer.lay_out_tagged(f"{question} " + "".join(step + tag for step in steps))
    assert tagged is not None
    assert (tagged.token_ids, tagged.reads) == (layout.token_ids, layout.reads)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, limit=st.integers(5, 60))
def test_truncation_keeps_every_step_or_refuses(steps: list[str], limit: int) -> None:
    made = FakeTokenizer(bos=True)
    config = named(Family.MATH_SHEPHERD, overflow=Overflow.TRUNCATE_LEFT)
    whole = bound(config, made)
    item = item_of(whole, "a b c d e f g", steps)
    before = whole.lay_out(item)
    try:
        layout = bound(config, made, max_tokens=limit).lay_out(item)
    except ContextTooLong as error:
        assert "maximum context length" in error.message  # noqa: PT017 - or none is raised
        return
    assert len(layout.token_ids) <= limit
    assert layout.token_ids[0] == made.bos_id
    for old, new in zip(before.places, layout.places, strict=True):
        assert before.token_ids[slice(*old.tokens)] == layout.token_ids[slice(*new.tokens)]
        assert before.token_ids[before.reads[old.read]] == layout.token_ids[layout.reads[new.read]]
