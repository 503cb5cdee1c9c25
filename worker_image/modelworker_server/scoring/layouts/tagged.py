"""Steps in one text or chat message, with a tag after each one."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelworker_api.rewards import Position
from modelworker_server.scoring.layouts.pages import Encoded, Frame, Page, around, encode
from modelworker_server.scoring.layouts.ways import (
    Arranged,
    ascending,
    glued,
    not_in_vocabulary,
    places_of,
    require_item,
)
from modelworker_server.scoring.steps import Span
from modelworker_server.scoring.values import Item, Layout, Templated, Tokenizer


@dataclass(frozen=True, slots=True)
class StepFormat:
    """How one step is written: `before`, the step, `between`, the tag, `after`."""

    tag: str
    before: str = ""
    between: str = ""
    after: str = ""
    strip: bool = False
    """Whether white space around a step is left out."""
    delete: str = ""
    """What is left out of a step."""

    def text(self, step: str) -> str:
        """The step as it is written."""
        kept = step.strip() if self.strip else step
        return kept.replace(self.delete, "") if self.delete else kept

    def write(self, page: Page, step: str) -> tuple[Span, Span]:
        """Write a step; where it went, and where its tag did."""
        page.write(self.before)
        chars = page.write(self.text(step))
        page.write(self.between)
        tag = page.write(self.tag)
        page.write(self.after)
        return chars, tag


@dataclass(frozen=True, slots=True)
class Tagged:
    """All steps in one text or message, each read at its tag or near it.

    A tag is found again by the characters where it was written, so one in a step's own text
    is text like any other.
    """

    frame: Frame
    step: StepFormat
    at: Position = Position.TAG
    """Where a step is read: not `LAST_TOKEN`."""
    in_text: bool = False
    """Whether callers may send a text with the tags in it."""

    def bind(self, tokenizer: Tokenizer) -> "TaggedArrangement":
        """With the tag looked up where it is read; see `Way.bind`."""
        if self.at is Position.LAST_TOKEN_OF_STEP:
            return TaggedArrangement(tokenizer, self, None, None)
        ids = tokenizer.encode(self.step.tag)
        # Where a text begins anew, SentencePiece puts a space that nobody wrote.
        space = tokenizer.id_of("▁") if len(ids) > 1 else None
        if ids[:-1] not in ([], [space]) or not ids or ids[-1] == tokenizer.special_id("unk"):
            raise not_in_vocabulary(self.step.tag, ids)
        return TaggedArrangement(tokenizer, self, ids[-1], space)


@dataclass(frozen=True, slots=True)
class TaggedArrangement(Arranged):
    """`Tagged` with its tag's id."""

    way: Tagged
    tag_id: int | None
    """None where the tags are not read, and so may be of any number of tokens."""
    space_id: int | None
    """SentencePiece's space, where it may come before the tag unwritten."""

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        before, after = around(self.way.frame, self.tokenizer, item)
        page = Page()
        page.write(before)
        written = [self.way.step.write(page, step) for step in item.steps]
        page.write(after)
        encoded = encode(self.tokenizer, page.text)
        return self._layout(
            encoded, item.spans, [chars for chars, _ in written], [tag for _, tag in written]
        )

    def lay_out_tagged(self, text: str) -> Layout | None:
        """See `Scorer.lay_out_tagged`; a step begins where the tag before it ends."""
        if not self.way.in_text:
            return Arranged.lay_out_tagged(self, text)
        tags = list(_tags_in(text, self.way.step.tag))
        if not tags:
            return None
        steps = [
            (start, end)
            for start, (end, _) in zip([0, *(end for _, end in tags)], tags, strict=False)
        ]
        return self._layout(encode(self.tokenizer, text), tuple(steps), steps, tags)

    def _layout(
        self, encoded: Encoded, chars: tuple[Span, ...], steps: list[Span], tags: list[Span]
    ) -> Layout:
        if self.tag_id is not None:
            for step, tag in enumerate(tags):
                if not encoded.is_token(tag, self.tag_id, after=self.space_id):
                    raise glued(self.way.step.tag, step, encoded, tag)
        tokens = [encoded.covering(step) for step in steps]
        return ascending(
            Layout(
                token_ids=encoded.ids,
                reads=tuple(self._read(encoded, *pair) for pair in zip(tokens, tags, strict=True)),
                places=places_of(chars, tokens),
                shared=tokens[0][0],
            )
        )

    def _read(self, encoded: Encoded, tokens: Span, tag: Span) -> int:
        match self.way.at:
            case Position.LAST_TOKEN_OF_STEP:
                return tokens[1] - 1
            case Position.BEFORE_TAG:
                return encoded.covering(tag)[1] - 2
            case _:
                return encoded.covering(tag)[1] - 1


def _tags_in(text: str, tag: str) -> Iterator[Span]:
    """Where the tag stands in a text; a word that begins with its letters is no tag."""
    at = text.find(tag)
    while at >= 0:
        end = at + len(tag)
        if not (tag[-1].isalnum() and text[end : end + 1].isalnum()):
            yield at, end
        at = text.find(tag, end)
