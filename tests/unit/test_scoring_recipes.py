"""Binding recipes: the tokens that are looked up, and the options."""

import re
from typing import Any

import pytest

from modelworker_api.rewards import Aggregation, Family, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError, NonFiniteScore
from modelworker_server.scoring.recipes import RECIPES
from modelworker_server.scoring.values import CheckpointFacts, Head, HeadKind
from tests.scoring_support import SPECIALS, FakeTokenizer, bound, item, named, shown

ONE = CheckpointFacts(num_labels=1)
REFERENCE = {"source": "local", "model": "/reference"}
LABELLED = {"label_index": 0, "position": "LastToken", "link": "Identity"}


def config(type: str, family: str, **options: Any) -> ScoringConfig:  # noqa: A002
    return ScoringConfig.model_validate({"type": type, "family": family, **options})


def test_every_family_has_a_recipe() -> None:
    assert set(RECIPES) == set(Family) - {Family.AUTO, Family.CUSTOM}


@pytest.mark.parametrize("family", sorted(RECIPES))
def test_what_is_not_compared_says_why(family: Family) -> None:
    assert RECIPES[family].not_compared == "" or len(RECIPES[family].not_compared) > 20


# --- what is looked up ---------------------------------------------------------------


def test_candidates_are_looked_up_in_order() -> None:
    tokenizer = FakeTokenizer()
    scorer = bound(named(Family.MATH_PSA), tokenizer)
    plus, minus = tokenizer.encode(" +") + tokenizer.encode(" -")
    assert scorer.head == Head(HeadKind.CANDIDATES, (plus, minus))


@pytest.mark.parametrize(
    ("family", "tokenizer", "words"),
    [
        pytest.param(
            Family.QWEN_MATH_PRM,
            FakeTokenizer(specials=[name for name in SPECIALS if name != "<extra_0>"]),
            ["'<extra_0>'", "became", "Custom"],
            id="tag",
        ),
        pytest.param(
            Family.INTERNLM2_REWARD,
            FakeTokenizer(specials=[name for name in SPECIALS if name != "<|reward|>"]),
            ["'<|reward|>'", "family that fits"],
            id="last-token",
        ),
        pytest.param(Family.SKYWORK_PRM, FakeTokenizer(names={}), ["bos_token", "BOS"], id="bos"),
        pytest.param(
            Family.REASONEVAL,
            FakeTokenizer(specials=[name for name in SPECIALS if name != "<s>"]),
            ["'<s>'", "became"],
            id="mark",
        ),
        pytest.param(Family.OPENRLHF_RM, FakeTokenizer(names={}), ["'eos'"], id="eos"),
    ],
)
def test_token_that_is_missing_is_named(
    family: Family, tokenizer: FakeTokenizer, words: list[str]
) -> None:
    with pytest.raises(LoadError) as caught:
        bound(named(family), tokenizer)
    assert caught.value.reason is FailureReason.TOKEN_NOT_IN_VOCABULARY
    assert all(word in caught.value.message for word in words), caught.value.message


def test_unknown_token_is_no_tag() -> None:
    class Unknowing(FakeTokenizer):
        def encode(self, text: str) -> list[int]:
            return [self.special_id("unk") or 0] if text == "ки" else super().encode(text)

    with pytest.raises(LoadError, match="'ки' has to be one token") as caught:
        bound(named(Family.MATH_SHEPHERD), Unknowing())
    assert caught.value.reason is FailureReason.TOKEN_NOT_IN_VOCABULARY


@pytest.mark.parametrize(
    "family", [Family.QWEN_MATH_PRM, Family.RLHFLOW_PRM_MISTRAL, Family.VERDICT, Family.EURUS_PRM]
)
def test_family_of_chats_needs_a_chat_template(family: Family) -> None:
    with pytest.raises(LoadError, match="no chat template") as caught:
        bound(named(family), FakeTokenizer(template=False))
    assert caught.value.reason is FailureReason.MODEL_UNSUPPORTED


def test_template_that_leaves_messages_out_is_refused() -> None:
    class Forgetful(FakeTokenizer):
        def render(self, turns: Any, *, add_generation_prompt: bool = False) -> str:
            return super().render(turns[:1], add_generation_prompt=add_generation_prompt)

    with pytest.raises(LoadError, match="does not write every message once"):
        bound(named(Family.QWEN_MATH_PRM), Forgetful())


@pytest.mark.parametrize(
    ("ending", "pieces"),
    [pytest.param("\n", ["Yes", "No"], id="new-line"), pytest.param(" ", None, id="space")],
)
def test_verdict_takes_the_reply_as_it_follows_the_prompt(
    ending: str, pieces: list[str] | None
) -> None:
    class Ending(FakeTokenizer):
        def render(self, turns: Any, *, add_generation_prompt: bool = False) -> str:
            text = super().render(turns, add_generation_prompt=add_generation_prompt)
            return text.removesuffix("\n") + ending

    tokenizer = Ending()
    if pieces is None:
        # The space would merge with the reply, so no token of the prompt predicts it.
        with pytest.raises(LoadError, match="'Yes' has to be one token"):
            bound(named(Family.VERDICT), tokenizer)
        return
    assert tokenizer.pieces(bound(named(Family.VERDICT), tokenizer).head.token_ids) == pieces


def test_reply_of_two_tokens_is_refused() -> None:
    class Splitting(FakeTokenizer):
        def split(self, text: str) -> Any:
            for start, end in super().split(text):
                if text[start:end] == "Yes":
                    yield from ((start, start + 1), (start + 1, end))
                else:
                    yield start, end

    with pytest.raises(LoadError, match="'Yes' has to be one token"):
        bound(named(Family.VERDICT), Splitting())


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "facts", "words"),
    [
        pytest.param(
            config("Outcome", "MathShepherd"), None, "has to be Process, not Outcome", id="type"
        ),
        pytest.param(
            config("Process", "Verdict"), None, "has to be Outcome, not Process", id="type-outcome"
        ),
        pytest.param(named(Family.MATH_SHEPHERD, beta=0.1), None, "beta", id="beta"),
        pytest.param(
            named(Family.MATH_SHEPHERD, cumulative=False), None, "implicit.form", id="form"
        ),
        pytest.param(
            named(Family.MATH_SHEPHERD, reference=REFERENCE),
            None,
            "implicit.referenceModel",
            id="reference",
        ),
        pytest.param(
            named(Family.EURUS_PRM, reference=None),
            None,
            "spec.scoring.implicit.referenceModel",
            id="no-reference",
        ),
        pytest.param(
            named(Family.IMPLICIT_PRM, beta=None), None, "spec.scoring.implicit.beta", id="no-beta"
        ),
        pytest.param(
            named(Family.SEQUENCE_CLASSIFIER, normalize=True), ONE, "normalize", id="normalize"
        ),
        pytest.param(
            named(Family.OPENRLHF_RM, normalize=True), ONE, "mean None", id="normalize-by-nothing"
        ),
        pytest.param(
            named(Family.OPENRLHF_RM, normalize=True),
            CheckpointFacts(num_labels=1, mean=0.5, std=0.0),
            "std 0.0",
            id="normalize-by-zero",
        ),
        pytest.param(
            named(Family.VERDICT, step_separator="\n"), None, "stepSeparator", id="separator"
        ),
        pytest.param(
            named(Family.QWEN_MATH_PRM, step_separator=""), None, "empty", id="separator-empty"
        ),
        pytest.param(
            named(Family.MATH_SHEPHERD, custom=LABELLED), None, "Custom", id="custom-of-a-family"
        ),
        pytest.param(config("Process", "Custom"), None, "custom", id="custom-without-parts"),
        pytest.param(
            named(Family.SEQUENCE_CLASSIFIER), CheckpointFacts(num_labels=5), "has 5", id="labels"
        ),
        pytest.param(
            named(Family.QWEN_MATH_PRM), ONE, "2 labels and the checkpoint's has 1", id="one-label"
        ),
    ],
)
def test_option_that_does_not_fit_is_refused(
    given: ScoringConfig, facts: CheckpointFacts | None, words: str
) -> None:
    with pytest.raises(LoadError, match=re.escape(words)):
        bound(given, FakeTokenizer(), facts)


def test_options_are_in_the_info() -> None:
    given = named(Family.QWEN_MATH_PRM, step_separator="\n", aggregation=Aggregation.MEAN)
    info = bound(given, FakeTokenizer()).info
    assert (info.family, info.type) == (Family.QWEN_MATH_PRM, ScoreType.PROCESS)
    assert (info.step_separator, info.aggregation) == ("\n", Aggregation.MEAN)
    assert info.compared


def test_trl_writes_the_separator_it_is_told() -> None:
    tokenizer = FakeTokenizer()
    layout = bound(named(Family.TRL_PRM, step_separator="\n\n"), tokenizer).lay_out(item("a", "b"))
    assert shown(tokenizer, layout) == "<s>Q?a⟦\n\n⟧b⟦\n\n⟧"


def test_normalised_value() -> None:
    facts = CheckpointFacts(num_labels=1, mean=1.0, std=2.0)
    plain, normal = (
        bound(named(Family.OPENRLHF_RM, normalize=on), FakeTokenizer(), facts) for on in (0, 1)
    )
    layout = plain.lay_out(item("a"))
    assert plain.combine(layout, [(5.0,)]).steps[0].value == 5.0
    assert normal.combine(layout, [(5.0,)]).steps[0].value == 2.0


@pytest.mark.parametrize(
    ("options", "second"),
    [
        pytest.param({}, 0.001 * 6, id="own-beta"),
        pytest.param({"beta": 0.5}, 3.0, id="beta"),
        pytest.param({"beta": 0.5, "cumulative": False}, 1.0, id="own-part"),
    ],
)
def test_implicit_reward(options: dict[str, Any], second: float) -> None:
    scorer = bound(named(Family.EURUS_PRM, **options), FakeTokenizer())
    assert not scorer.incremental
    layout = scorer.lay_out(item("One", "two three"))
    rows = [(1.0,)] * len(layout.reads)
    assert len(rows) == 6
    assert scorer.combine(layout, rows).steps[1].value == pytest.approx(second)


def test_rows_that_do_not_fit_the_reads_are_a_bug() -> None:
    scorer = bound(named(Family.MATH_SHEPHERD), FakeTokenizer())
    layout = scorer.lay_out(item("a", "b"))
    with pytest.raises(ValueError, match="1 rows for 2 reads"):
        scorer.combine(layout, [(0.0, 0.0)])
    with pytest.raises(ValueError, match="row of 1 numbers instead of 2"):
        scorer.combine(layout, [(0.0,), (0.0,)])
    with pytest.raises(NonFiniteScore, match="step 1"):
        scorer.combine(layout, [(0.0, 0.0), (0.0, float("nan"))])
