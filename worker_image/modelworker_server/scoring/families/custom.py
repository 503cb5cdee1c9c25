"""A recipe of which the object gives every part."""

from typing import Final

from modelworker_api import rewards
from modelworker_api.rewards import Aggregation, CustomRecipe, Family, Position, ScoreType
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.families.links import Link, Logistic, Margin, Plain, Probability
from modelworker_server.scoring.families.recipe import Recipe
from modelworker_server.scoring.layouts.pages import ChatFrame, Frame, TextFrame
from modelworker_server.scoring.layouts.stepwise import StepEnds
from modelworker_server.scoring.layouts.tagged import StepFormat, Tagged
from modelworker_server.scoring.layouts.ways import Way
from modelworker_server.scoring.layouts.whole import Whole
from modelworker_server.scoring.values import HeadKind

_AT_TAG: Final = frozenset({Position.TAG, Position.BEFORE_TAG})
_PLAIN_FORMAT: Final = "{step}{tag}"


def custom_recipe(parts: CustomRecipe, labels: int | None) -> Recipe:
    """The recipe, once its parts are known to belong together.

    Args:
        parts: `spec.scoring.custom`.
        labels: outputs of the checkpoint's classification head, if it is known to have one.

    Raises:
        LoadError: parts are missing, have no use, or contradict one another.
    """
    outcome = parts.position is Position.LAST_TOKEN
    head, link = _head_and_link(parts, labels)
    return Recipe(
        family=Family.CUSTOM,
        type=ScoreType.OUTCOME if outcome else ScoreType.PROCESS,
        aggregation=Aggregation.LAST if outcome else Aggregation.MIN,
        way=_way(parts),
        head=head,
        candidates=_candidates(parts),
        link=link,
        not_compared="its parts are the object's own, so there is no reference",
    )


def _way(parts: CustomRecipe) -> Way:
    frame = _frame(parts)
    tag = parts.step_tag
    if parts.position is Position.LAST_TOKEN:
        if tag is not None or parts.step_format != _PLAIN_FORMAT:
            raise _wrong(
                "step has no use with position LastToken, which scores the whole answer; leave it "
                "out or choose another position"
            )
        return Whole(frame)
    if tag is None:
        if parts.position in _AT_TAG:
            raise _wrong(f"position {parts.position} needs step.tag, the tag after each step")
        if parts.step_format != _PLAIN_FORMAT:
            raise _wrong("step.format needs step.tag; without a tag the answer stays as it is")
        return StepEnds(frame)
    before, between, after = _format(parts.step_format)
    step = StepFormat(tag=tag, before=before, between=between, after=after)
    in_text = isinstance(frame, TextFrame) and parts.position in _AT_TAG
    return Tagged(frame, step, at=parts.position, in_text=in_text)


def _frame(parts: CustomRecipe) -> Frame:
    if parts.text is None:
        return ChatFrame(parts.system)
    if parts.system is not None:
        raise _wrong(
            "template.chat.system goes into the chat template, and template.text stands in its "
            "place; give one of them"
        )
    _require_once(parts.text, "template.text", ("{question}", "{response}"))
    return TextFrame(parts.text)


def _format(text: str) -> tuple[str, str, str]:
    """What stands before the step, between step and tag, and after the tag."""
    _require_once(text, "step.format", ("{step}", "{tag}"))
    before, rest = text.split("{step}")
    if "{tag}" in before:
        raise _wrong("step.format has {tag} before {step}; the tag comes after the step")
    between, after = rest.split("{tag}")
    return before, between, after


def _require_once(text: str, name: str, fields: tuple[str, ...]) -> None:
    for field in fields:
        if text.count(field) != 1:
            raise _wrong(f"{name} has {field} {text.count(field)} times, and needs it once")


def _candidates(parts: CustomRecipe) -> tuple[str, ...]:
    if parts.positive_token is None or parts.negative_token is None:
        return ()
    return parts.positive_token, parts.negative_token


def _head_and_link(parts: CustomRecipe, labels: int | None) -> tuple[HeadKind, Link]:
    tokens = (parts.positive_token, parts.negative_token)
    if (tokens[0] is None) != (tokens[1] is None):
        raise _wrong("tokens.positive and tokens.negative belong together; give both or none")
    if (tokens[0] is None) == (parts.label_index is None):
        raise _wrong(
            "give tokens (positive and negative) for a language model's head, or else label "
            "for a classification head"
        )
    if parts.label_index is None:
        return HeadKind.CANDIDATES, _link_of_tokens(parts.link)
    return HeadKind.CLASSIFIER, _link_of_label(parts.link, parts.label_index, labels)


def _link_of_tokens(link: rewards.Link) -> Link:
    match link:
        case rewards.Link.SOFTMAX:
            return Probability(index=0, width=2)
        case rewards.Link.DIFFERENCE:
            return Margin(index=0)
        case _:
            raise _wrong(
                f"link {link} reads one number, and there are two tokens; use Softmax or Difference"
            )


def _link_of_label(link: rewards.Link, index: int, labels: int | None) -> Link:
    if labels is None:
        raise _wrong("label needs a checkpoint with a classification head")
    if not 0 <= index < labels:
        raise _wrong(f"label.index is {index}, and the checkpoint has labels 0 to {labels - 1}")
    match link:
        case rewards.Link.SOFTMAX if labels == 1:
            raise _wrong("the checkpoint has one label, whose Softmax is always 1; use Sigmoid")
        case rewards.Link.SOFTMAX:
            return Probability(index=index, width=labels)
        case rewards.Link.SIGMOID:
            return Logistic(index=index, width=labels)
        case rewards.Link.IDENTITY:
            return Plain(index=index, width=labels)
        case _:
            raise _wrong(
                "link Difference is of two candidate tokens; a label needs Softmax, Sigmoid or "
                "Identity"
            )


def _wrong(message: str) -> LoadError:
    return LoadError(FailureReason.MODEL_UNSUPPORTED, f"spec.scoring.custom: {message}")
