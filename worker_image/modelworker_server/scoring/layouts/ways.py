"""What every way of laying out shares."""

from dataclasses import dataclass, field
from typing import Protocol

from modelworker_api.wire import FailureReason
from modelworker_server.errors import BadRequest, LoadError, StepMismatch, Unsupported
from modelworker_server.scoring.layouts.pages import Encoded
from modelworker_server.scoring.steps import Span
from modelworker_server.scoring.values import Item, Layout, Place, Templated, Tokenizer


class Way(Protocol):
    """How a recipe lays out, as plain data."""

    def bind(self, tokenizer: Tokenizer) -> "Arranged":
        """The same with the tokens looked up.

        Raises:
            LoadError: a token is not in the vocabulary, or not one token.
        """


@dataclass(frozen=True, slots=True)
class Arranged:
    """A way of laying out with a tokenizer's ids in it."""

    tokenizer: Tokenizer = field(repr=False)

    def lay_out(self, item: Item | Templated) -> Layout:
        """The whole input, however long; see `Scorer.lay_out`."""
        raise NotImplementedError

    def lay_out_tagged(self, text: str) -> Layout | None:  # noqa: ARG002 - no text will do
        """See `Scorer.lay_out_tagged`; refused where tags do not stand in a text."""
        raise Unsupported(
            "this model's recipe has no step tag that can stand in a text; send question and "
            "steps to /v1/rewards"
        )

    def candidate(self, text: str) -> int:
        """The token that a candidate is at a read.

        Raises:
            LoadError: it is not one token.
        """
        return candidate_id(self.tokenizer, text)


def candidate_id(tokenizer: Tokenizer, text: str) -> int:
    """The one token that a text is, or else the vocabulary's entry of exactly that name.

    Raises:
        LoadError: it is neither.
    """
    ids = tokenizer.encode(text)
    found = ids[0] if len(ids) == 1 else tokenizer.id_of(text)
    if found is None or found == tokenizer.special_id("unk"):
        raise not_in_vocabulary(text, ids)
    return found


def not_in_vocabulary(text: str, ids: list[int]) -> LoadError:
    """The error for a text that has to be one token and is not."""
    return LoadError(
        FailureReason.TOKEN_NOT_IN_VOCABULARY,
        f"{text!r} has to be one token of this model, and it became {ids}; state a "
        "family that fits the checkpoint, or family Custom with a token of its own",
    )


def require_item(item: Item | Templated) -> Item:
    """Refuse a text that the caller has templated.

    Raises:
        BadRequest: saying what to send.
    """
    if isinstance(item, Templated):
        raise BadRequest(
            "this model's recipe writes the whole input itself and cannot take a text; "
            "send question and response, question and steps, or messages"
        )
    return item


def glued(tag: str, step: int, encoded: Encoded, chars: Span) -> StepMismatch:
    """The error for a tag that did not become a token of its own."""
    return StepMismatch(
        f"the tag {tag!r} after step {step} is not one token there, it became "
        f"{encoded.became(chars)}: it merges with what is next to it; write the tag with a space "
        "before it, or use one that is a special token of the model",
        step=step,
    )


def ascending(layout: Layout) -> Layout:
    """The layout, once each read is known to be a position of its own.

    Raises:
        StepMismatch: a step is read where another one is, or before the input begins; it
            names the step, the later one of two.
    """
    if layout.reads[0] < 0:
        raise StepMismatch("the input has no token before step 0 ends", step=0)
    for step in range(1, len(layout.places)):
        if layout.reads[step - 1] >= layout.reads[step]:
            raise StepMismatch(
                f"step {step} ends in the same token as the step before it, so it has no score "
                "of its own; put them together, or separate them by a new line",
                step=step,
            )
    return layout


def places_of(chars: tuple[Span, ...], tokens: list[Span]) -> tuple[Place, ...]:
    """One place for each step, the n-th read being the n-th step's."""
    return tuple(
        Place(read, step, covered)
        for read, (step, covered) in enumerate(zip(chars, tokens, strict=True))
    )
