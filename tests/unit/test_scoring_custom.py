"""Recipes of which the object gives every part."""

import math
import re
from typing import Any

import pytest

from modelworker_api.rewards import ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError, Unsupported
from modelworker_server.scoring.values import CheckpointFacts, Head, HeadKind
from tests.scoring_support import FakeTokenizer, bound, item, shown

TAGGED = {
    "text": "Q: {question} {A} {response} end",
    "step_tag": "<extra_0>",
    "positive_token": "+",
    "negative_token": "-",
    "position": "Tag",
    "link": "Softmax",
}
LABELLED = {
    "text": "{question} {response}",
    "label_index": 1,
    "position": "LastToken",
    "link": "Identity",
}
THREE = CheckpointFacts(num_labels=3)


def custom(parts: dict[str, Any], **changes: Any) -> ScoringConfig:
    """The configuration; a change to None leaves a part out."""
    given = {k: v for k, v in (parts | changes).items() if v is not None}
    kind = "Outcome" if given["position"] == "LastToken" else "Process"
    return ScoringConfig.model_validate({"type": kind, "family": "Custom", "custom": given})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(
            custom(TAGGED), "Q: Q? {A} One.⟦<extra_0>⟧Two⟦<extra_0>⟧ end", id="text-at-tag"
        ),
        pytest.param(
            custom(TAGGED, position="BeforeTag"),
            "Q: Q? {A} One⟦.⟧<extra_0>⟦Two⟧<extra_0> end",
            id="before-tag",
        ),
        pytest.param(
            custom(TAGGED, step_format="* {step} {tag}\n"),
            "Q: Q? {A} * One. ⟦<extra_0>⟧\n* Two ⟦<extra_0>⟧\n end",
            id="step-format",
        ),
        pytest.param(
            custom(TAGGED, position="LastTokenOfStep", step_tag="# ="),
            "Q: Q? {A} One⟦.#⟧ =⟦Two⟧# = end",
            id="tag-of-several-tokens",
        ),
        pytest.param(
            custom(TAGGED, position="LastTokenOfStep", step_tag=None),
            "Q: Q? {A} One⟦.\n\n⟧⟦Two⟧ end",
            id="no-tag-response-as-it-is",
        ),
        pytest.param(
            custom(TAGGED, text=None, system="Judge."),
            "<im>system\nJudge.</im>\n<im>user\nQ?</im>\n"
            "<im>assistant\nOne.⟦<extra_0>⟧Two⟦<extra_0>⟧</im>\n",
            id="chat",
        ),
        pytest.param(custom(LABELLED), "Q? One.\n\n⟦Two⟧", id="whole-text"),
        pytest.param(
            custom(LABELLED, text=None),
            "<im>user\nQ?</im>\n<im>assistant\nOne.\n\nTwo</im>⟦\n⟧",
            id="whole-chat",
        ),
    ],
)
def test_layout(given: ScoringConfig, text: str) -> None:
    tokenizer = FakeTokenizer()
    layout = bound(given, tokenizer, THREE).lay_out(item("One.", "Two"))
    assert shown(tokenizer, layout) == text


@pytest.mark.parametrize(
    ("given", "row", "value"),
    [
        pytest.param(custom(TAGGED), (math.log(3), 0.0), 0.75, id="softmax-of-tokens"),
        pytest.param(
            custom(TAGGED, link="Difference"), (math.log(3), 0.0), 0.5, id="difference-of-tokens"
        ),
        pytest.param(custom(LABELLED), (1.0, -7.0, 1.0), -7.0, id="label-as-it-is"),
        pytest.param(custom(LABELLED, link="Sigmoid"), (9.0, 0.0, 9.0), 0.5, id="sigmoid-of-label"),
        pytest.param(
            custom(LABELLED, link="Softmax"), (0.0, math.log(2), 0.0), 0.5, id="softmax-of-labels"
        ),
    ],
)
def test_score(given: ScoringConfig, row: tuple[float, ...], value: float) -> None:
    scorer = bound(given, FakeTokenizer(), THREE)
    layout = scorer.lay_out(item("One"))
    assert scorer.combine(layout, [row]).steps[0].value == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "piece"),
    [pytest.param("+", "+", id="text"), pytest.param("<|reward|>", "<|reward|>", id="special")],
)
def test_candidates_are_texts_or_names(name: str, piece: str) -> None:
    tokenizer = FakeTokenizer()
    head = bound(custom(TAGGED, positive_token=name), tokenizer).head
    assert tokenizer.pieces(head.token_ids) == [piece, "-"]


def test_candidate_may_be_the_name_of_a_vocabulary_entry() -> None:
    class Naming(FakeTokenizer):
        def id_of(self, token: str) -> int | None:
            return 7 if token == "Ġplus" else super().id_of(token)

        def encode(self, text: str) -> list[int]:
            return [1, 2] if text == "Ġplus" else super().encode(text)

    head = bound(custom(TAGGED, positive_token="Ġplus"), Naming()).head
    assert head == Head(HeadKind.CANDIDATES, (7, head.token_ids[1]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"positive_token": "good bad"}, "'good bad' has to be one token", id="words"),
        pytest.param({"negative_token": "+"}, "are the same token", id="same"),
        pytest.param({"step_tag": "a b"}, "'a b' has to be one token", id="tag"),
    ],
)
def test_text_that_is_not_one_token_is_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(LoadError, match=re.escape(words)) as caught:
        bound(custom(TAGGED, **changes), FakeTokenizer())
    assert caught.value.reason is FailureReason.TOKEN_NOT_IN_VOCABULARY


@pytest.mark.parametrize(
    ("parts", "changes", "words"),
    [
        pytest.param(TAGGED, {"text": "{response}"}, "{question} 0 times", id="no-question"),
        pytest.param(
            TAGGED, {"text": "{question}{response}{response}"}, "{response} 2 times", id="twice"
        ),
        pytest.param(TAGGED, {"system": "S"}, "system", id="system-and-text"),
        pytest.param(TAGGED, {"step_tag": None}, "needs step.tag", id="no-tag"),
        pytest.param(TAGGED, {"step_format": "{step}"}, "{tag} 0 times", id="format-without-tag"),
        pytest.param(TAGGED, {"step_format": "{tag}{step}"}, "before", id="tag-before-step"),
        pytest.param(
            TAGGED,
            {"step_tag": None, "position": "LastTokenOfStep", "step_format": "{step}\n{tag}"},
            "step.format needs step.tag",
            id="format-of-no-tag",
        ),
        pytest.param(TAGGED, {"negative_token": None}, "belong together", id="one-token"),
        pytest.param(TAGGED, {"label_index": 0}, "or else", id="tokens-and-label"),
        pytest.param(
            TAGGED, {"positive_token": None, "negative_token": None}, "or else", id="no-head"
        ),
        pytest.param(TAGGED, {"link": "Sigmoid"}, "Softmax or Difference", id="sigmoid-of-tokens"),
        pytest.param(LABELLED, {"step_tag": "#"}, "LastToken", id="tag-of-whole-answer"),
        pytest.param(LABELLED, {"label_index": 3}, "labels 0 to 2", id="no-such-label"),
        pytest.param(
            LABELLED, {"link": "Difference"}, "candidate tokens", id="difference-of-label"
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    parts: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(LoadError, match=re.escape(words)) as caught:
        bound(custom(parts, **changes), FakeTokenizer(), THREE)
    assert caught.value.message.startswith("spec.scoring.custom: ")


@pytest.mark.parametrize(
    ("labels", "link", "words"),
    [
        pytest.param(None, "Identity", "needs a checkpoint with a classification head", id="none"),
        pytest.param(1, "Softmax", "use Sigmoid", id="softmax-of-one"),
    ],
)
def test_label_needs_a_head_that_has_it(labels: int | None, link: str, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        bound(
            custom(LABELLED, label_index=0, link=link),
            FakeTokenizer(),
            CheckpointFacts(num_labels=labels),
        )


def test_type_has_to_fit_the_position() -> None:
    given = named_type("Process", LABELLED)
    with pytest.raises(LoadError, match="has to be Outcome, not Process"):
        bound(given, FakeTokenizer(), THREE)


def named_type(kind: str, parts: dict[str, Any]) -> ScoringConfig:
    return ScoringConfig.model_validate({"type": kind, "family": "Custom", "custom": parts})


def test_tags_stand_in_a_text_of_a_text_template_alone() -> None:
    tokenizer = FakeTokenizer()
    layout = bound(custom(TAGGED), tokenizer).lay_out_tagged("a<extra_0>b<extra_0>")
    assert layout is not None
    assert shown(tokenizer, layout) == "a⟦<extra_0>⟧b⟦<extra_0>⟧"
    for given in (custom(TAGGED, text=None), custom(TAGGED, position="LastTokenOfStep")):
        with pytest.raises(Unsupported, match="/v1/rewards"):
            bound(given, tokenizer).lay_out_tagged("a<extra_0>b")


def test_custom_recipe_has_no_reference() -> None:
    assert not bound(custom(TAGGED), FakeTokenizer()).info.compared
