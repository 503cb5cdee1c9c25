"""Whole answers, read at one position."""

from dataclasses import dataclass, replace

from modelworker_api.wire import FailureReason
from modelworker_server.errors import BadRequest, LoadError
from modelworker_server.scoring.layouts.pages import (
    ChatFrame,
    Encoded,
    Frame,
    Page,
    TextFrame,
    encode,
    only_question,
    unused_mark,
)
from modelworker_server.scoring.layouts.ways import Arranged, not_in_vocabulary, require_item
from modelworker_server.scoring.steps import Span
from modelworker_server.scoring.values import Item, Layout, Place, Templated, Tokenizer

EOS = "eos"
"""As `Whole.closing`: the tokenizer's own EOS, whatever its name."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Question and answer to the end, read at the last token."""

    frame: Frame
    closing: str = ""
    """The token that has to be the last one, appended where it is not; `EOS`, or its name."""
    trim: str = ""
    """Characters that are taken off the end of the text."""

    def bind(self, tokenizer: Tokenizer) -> "WholeArrangement":
        """With the last token looked up; see `Way.bind`."""
        return WholeArrangement(tokenizer, self, _closing(tokenizer, self.closing))


@dataclass(frozen=True, slots=True)
class WholeArrangement(Arranged):
    """`Whole` with its last token's id."""

    way: Whole
    closing: int | None

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        if isinstance(item, Templated):
            return self._layout(item.text, (0, len(item.text)), (0, len(item.text)))
        return self._layout(*self._written(item), (0, len(item.response)))

    def _written(self, item: Item) -> tuple[str, Span]:
        """The whole text, and the characters in it that are the answer."""
        frame = self.way.frame
        if isinstance(frame, TextFrame):
            page = Page()
            before, after = frame.around(item)
            page.write(before)
            chars = page.write(item.response)
            page.write(after)
            return page.text, chars
        text = self.tokenizer.render((*frame.turns(item), ("assistant", item.response)))
        before, after = frame.around(self.tokenizer, item)
        if text.startswith(before) and text.endswith(after):
            return text, (len(before), len(text) - len(after))
        # A template that rewrites the answer: it may then be anywhere.
        return text, (0, len(text))

    def _layout(self, text: str, answer: Span, chars: Span) -> Layout:
        kept = text.rstrip(self.way.trim) if self.way.trim else text
        encoded = encode(self.tokenizer, kept)
        ids = encoded.ids
        if self.closing is not None and ids[-1:] != (self.closing,):
            ids = (*ids, self.closing)
        if not ids:
            raise BadRequest("the text is empty; send the whole templated text")
        tokens = encoded.covering(answer)
        return Layout(
            token_ids=ids,
            reads=(len(ids) - 1,),
            places=(Place(0, chars, tokens),),
            shared=tokens[0],
        )


@dataclass(frozen=True, slots=True)
class WholeWithGate:
    """A chat read at the end, and before that where the answer's header begins."""

    header: str
    """What the chat template writes between the question and the answer."""

    def bind(self, tokenizer: Tokenizer) -> "GatedArrangement":
        """With the header's tokens looked up; see `Way.bind`."""
        chat = WholeArrangement(tokenizer, Whole(ChatFrame()), None)
        header = tuple(tokenizer.encode(self.header))
        return GatedArrangement(tokenizer, chat, header)


@dataclass(frozen=True, slots=True)
class GatedArrangement(Arranged):
    """`WholeWithGate` with its header's ids."""

    chat: WholeArrangement
    header: tuple[int, ...]

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        layout = self.chat.lay_out(item)
        gate = _last_of(self.header, layout.token_ids)
        if gate is None:
            raise BadRequest(
                f"the text has no assistant's header of tokens {list(self.header)}, which this "
                "model's gate reads; send messages, or a text by the model's chat template"
            )
        (place,) = layout.places
        return replace(layout, reads=(gate, *layout.reads), places=(replace(place, read=1),))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about the answer, read where the chat model's reply would begin."""

    prompt: TextFrame

    def bind(self, tokenizer: Tokenizer) -> "AskedArrangement":
        """See `Way.bind`; `candidate` looks up the replies."""
        return AskedArrangement(tokenizer, self)


@dataclass(frozen=True, slots=True)
class AskedArrangement(Arranged):
    """`Asked` with a tokenizer."""

    way: Asked

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        text, chars = self._written(item)
        encoded = encode(self.tokenizer, text)
        tokens = encoded.covering(chars)
        return Layout(
            token_ids=encoded.ids,
            reads=(len(encoded.ids) - 1,),
            places=(Place(0, (0, len(item.response)), tokens),),
            shared=tokens[0],
        )

    def candidate(self, text: str) -> int:
        """The token that a reply begins with, with or without a space as the template ends."""
        example = Item(context=(("user", "1 + 1 = ?"),), response="2", spans=((0, 1),))
        prompt, _ = self._written(example)
        before, after = self._ids(prompt), self._ids(prompt + text)
        if len(after) != len(before) + 1 or after[:-1] != before:
            raise not_in_vocabulary(text, list(after[len(before) :]))
        return after[-1]

    def _ids(self, text: str) -> tuple[int, ...]:
        encoded: Encoded = encode(self.tokenizer, text)
        return encoded.ids

    def _written(self, item: Item) -> tuple[str, Span]:
        """The whole text, and the characters in it that are the answer."""
        mark = unused_mark((("user", only_question(item)),))
        before, after = self.way.prompt.around(item)
        turns = (("user", f"{before}{mark}{after}"),)
        pieces = self.tokenizer.render(turns, add_generation_prompt=True).split(mark)
        if len(pieces) != 2:
            raise BadRequest("the model's chat template does not write the user's message once")
        start = len(pieces[0])
        return item.response.join(pieces), (start, start + len(item.response))


def _closing(tokenizer: Tokenizer, name: str) -> int | None:
    """The id of the token that has to be last, if any has to.

    Raises:
        LoadError: the tokenizer has no such token.
    """
    if not name:
        return None
    found = tokenizer.special_id(EOS) if name == EOS else tokenizer.id_of(name)
    if found is None:
        raise LoadError(
            FailureReason.TOKEN_NOT_IN_VOCABULARY,
            f"this recipe's inputs end with the token {name!r} and the checkpoint's tokenizer "
            "has none; state a family that fits the checkpoint",
        )
    return found


def _last_of(pattern: tuple[int, ...], ids: tuple[int, ...]) -> int | None:
    """Where the pattern begins for the last time."""
    size = len(pattern)
    starts = range(len(ids) - size, -1, -1)
    return next((i for i in starts if ids[i : i + size] == pattern), None)
