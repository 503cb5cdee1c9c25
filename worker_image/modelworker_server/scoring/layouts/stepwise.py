"""Steps that are tokenised one by one, and answers read at the end of each step."""

from dataclasses import dataclass
from enum import StrEnum

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.layouts.pages import (
    Encoded,
    Frame,
    Page,
    TextFrame,
    around,
    encode,
    only_question,
)
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


class Bos(StrEnum):
    """Whether an input begins with the tokenizer's BOS, added to plain texts or not."""

    NONE = "none"
    IF_ANY = "if-any"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Stepwise:
    """The question's tokens, then each step's own and the separator's; read at its last one.

    Each piece is tokenised alone, so a step cannot merge with what is around it.
    """

    question: str
    """How the question is written, with `{question}`."""
    separator: str
    bos: Bos = Bos.NONE

    def bind(self, tokenizer: Tokenizer) -> "StepwiseArrangement":
        """With BOS and the separator looked up; see `Way.bind`."""
        separator = tuple(tokenizer.encode(self.separator))
        if not separator:
            raise not_in_vocabulary(self.separator, [])
        bos = None if self.bos is Bos.NONE else tokenizer.special_id("bos")
        if bos is None and self.bos is Bos.REQUIRED:
            raise LoadError(
                FailureReason.TOKEN_NOT_IN_VOCABULARY,
                "this recipe begins with BOS and the checkpoint's tokenizer has none; set "
                "bos_token in its tokenizer_config.json",
            )
        return StepwiseArrangement(tokenizer, self, separator, () if bos is None else (bos,))


@dataclass(frozen=True, slots=True)
class StepwiseArrangement(Arranged):
    """`Stepwise` with its ids."""

    way: Stepwise
    separator: tuple[int, ...]
    bos: tuple[int, ...]

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        question = self.way.question.replace("{question}", only_question(item))
        ids = [*self.bos, *self.tokenizer.encode(question)]
        shared = len(ids)
        tokens: list[Span] = []
        reads = []
        for step in item.steps:
            start = len(ids)
            ids += self.tokenizer.encode(step)
            tokens.append((start, len(ids)))
            ids += self.separator
            reads.append(len(ids) - 1)
        return Layout(
            token_ids=tuple(ids),
            reads=tuple(reads),
            places=places_of(item.spans, tokens),
            shared=shared,
        )


@dataclass(frozen=True, slots=True)
class StepEnds:
    """The response as it stands, each step read at the token that its last character is in."""

    frame: Frame

    def bind(self, tokenizer: Tokenizer) -> "StepEndsArrangement":
        """See `Way.bind`; there is no token to look up."""
        return StepEndsArrangement(tokenizer, self)


@dataclass(frozen=True, slots=True)
class StepEndsArrangement(Arranged):
    """`StepEnds` with a tokenizer."""

    way: StepEnds

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        before, after = around(self.way.frame, self.tokenizer, item)
        page = Page()
        page.write(before)
        begin, _ = page.write(item.response)
        page.write(after)
        encoded = encode(self.tokenizer, page.text)
        tokens = [encoded.covering((begin + start, begin + end)) for start, end in item.spans]
        return ascending(
            Layout(
                token_ids=encoded.ids,
                reads=tuple(end - 1 for _, end in tokens),
                places=places_of(item.spans, tokens),
                shared=tokens[0][0],
            )
        )


@dataclass(frozen=True, slots=True)
class Marked:
    """Steps between marks that split the tokenisation and are taken out again.

    A mark stands before the first step and after each one. The read is `back` tokens before
    a step's last one.
    """

    frame: TextFrame
    mark: str
    back: int

    def bind(self, tokenizer: Tokenizer) -> "MarkedArrangement":
        """With the mark looked up; see `Way.bind`."""
        found = tokenizer.id_of(self.mark)
        if found is None:
            raise not_in_vocabulary(self.mark, tokenizer.encode(self.mark))
        return MarkedArrangement(tokenizer, self, found)


@dataclass(frozen=True, slots=True)
class MarkedArrangement(Arranged):
    """`Marked` with the mark's id."""

    way: Marked
    mark_id: int

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        before, after = self.way.frame.around(item)
        page = Page()
        page.write(before)
        marks = [page.write(self.way.mark)]
        chars = []
        for step in item.steps:
            chars.append(page.write(step))
            marks.append(page.write(self.way.mark))
        page.write(after)
        encoded = self._without(encode(self.tokenizer, page.text), marks)
        tokens = [encoded.covering(step) for step in chars]
        return ascending(
            Layout(
                token_ids=encoded.ids,
                reads=tuple(end - 1 - self.way.back for _, end in tokens),
                places=places_of(item.spans, tokens),
                shared=tokens[0][0],
            )
        )

    def _without(self, encoded: Encoded, marks: list[Span]) -> Encoded:
        taken = set()
        for step, mark in enumerate(marks, start=-1):
            if not encoded.is_token(mark, self.mark_id):
                raise glued(self.way.mark, max(step, 0), encoded, mark)
            taken.add(encoded.covering(mark)[0])
        kept = [i for i in range(len(encoded.ids)) if i not in taken]
        return Encoded(tuple(encoded.ids[i] for i in kept), tuple(encoded.ends[i] for i in kept))
