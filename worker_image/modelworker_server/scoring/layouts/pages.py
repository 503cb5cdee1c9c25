"""A text that is written piece by piece, and which of its tokens cover which characters."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from modelworker_server.errors import BadRequest
from modelworker_server.scoring.steps import Span
from modelworker_server.scoring.values import Item, Tokenizer, Turn


@dataclass(slots=True)
class Page:
    """A text under construction that tells where each piece went."""

    _pieces: list[str] = field(default_factory=list)
    _length: int = 0

    def write(self, piece: str) -> Span:
        """Append a piece; the range of characters that it has on the page."""
        start = self._length
        self._pieces.append(piece)
        self._length += len(piece)
        return start, self._length

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._pieces)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text's tokens, and the character that each one ends before.

    Ends alone are kept: byte-level tokenizers give every part of a split character the
    same range, and some leave the space at a token's front out of its range.
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]

    def covering(self, chars: Span) -> Span:
        """The tokens that the characters are in, those that hold other ones too included."""
        start, end = chars
        first = bisect_right(self.ends, start)
        if start == end:
            return first, first
        last = max(bisect_right(self.ends, end), bisect_left(self.ends, end) + 1)
        return first, min(last, len(self.ids))

    def is_token(self, chars: Span, token_id: int, *, after: int | None = None) -> bool:
        """Whether the characters became that token, alone or after a token of no characters.

        Args:
            chars: the characters.
            token_id: the token, which may hold no characters after them.
            after: the one that may come before it; None for none.
        """
        became = self.became(chars)
        if not became or became[:-1] not in ([], [after]):
            return False
        return became[-1] == token_id and self.ends[self.covering(chars)[1] - 1] == chars[1]

    def became(self, chars: Span) -> list[int]:
        """What the characters became, for a message."""
        first, last = self.covering(chars)
        return list(self.ids[first:last])


def encode(tokenizer: Tokenizer, text: str) -> Encoded:
    """The text's tokens, with exactly one BOS in front where the tokenizer adds one.

    A BOS that the text has already, such as one of the chat template, is not doubled.
    """
    ids, offsets = tokenizer.encode_with_offsets(text)
    ends = list(accumulate((end for _, end in offsets), max))
    bos = tokenizer.bos_id
    if bos is None:
        return Encoded(tuple(ids), tuple(ends))
    written = next((i for i, token in enumerate(ids) if token != bos), len(ids))
    at = ends[written - 1] if written else 0
    return Encoded((bos, *ids[written:]), (at, *ends[written:]))


@dataclass(frozen=True, slots=True)
class TextFrame:
    """A text with `{question}` and `{response}`, each once; other braces are plain text."""

    template: str

    def around(self, item: Item) -> tuple[str, str]:
        """What stands before and after the response.

        Raises:
            BadRequest: the item has more than one question.
        """
        before, after = self.template.split("{response}")
        question = only_question(item)
        return before.replace("{question}", question), after.replace("{question}", question)


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """The model's chat template, the response being the assistant's last message."""

    system: str | None = None
    """Put in front of a conversation that has no system message of its own."""

    def turns(self, item: Item) -> tuple[Turn, ...]:
        """The conversation before the response."""
        if self.system is None or item.context[0][0] == "system":
            return item.context
        return (("system", self.system), *item.context)

    def around(self, tokenizer: Tokenizer, item: Item) -> tuple[str, str]:
        """What the template writes before and after the response.

        Raises:
            BadRequest: the template refuses the conversation.
        """
        turns = self.turns(item)
        mark = unused_mark(turns)
        before, after = between_marks(tokenizer, (*turns, ("assistant", mark)), mark, 1)
        return before, after


Frame = TextFrame | ChatFrame


def around(frame: Frame, tokenizer: Tokenizer, item: Item) -> tuple[str, str]:
    """What stands before and after the response."""
    if isinstance(frame, TextFrame):
        return frame.around(item)
    return frame.around(tokenizer, item)


def only_question(item: Item) -> str:
    """The question, where a recipe has room for nothing else.

    Raises:
        BadRequest: there are other messages before the answer.
    """
    if len(item.context) != 1 or item.context[0][0] != "user":
        roles = ", ".join(role for role, _ in item.context)
        raise BadRequest(
            f"this model takes one question and its answer, and the messages before the answer "
            f"are: {roles}; send one user message, or question and response"
        )
    return item.context[0][1]


def unused_mark(turns: tuple[Turn, ...]) -> str:
    """A text that is in none of the messages: it keeps a place while a template renders.

    The template never sees what takes its place, so it can neither trim nor rewrite it.
    """
    return next(mark for mark in _marks() if not any(mark in content for _, content in turns))


def _marks() -> Iterator[str]:
    number = 0
    while True:  # characters of the private use area
        yield f"\ue000{number}\ue001"
        number += 1


def between_marks(
    tokenizer: Tokenizer, turns: tuple[Turn, ...], mark: str, count: int
) -> list[str]:
    """The rendered conversation, split at its marks.

    Raises:
        BadRequest: the template refuses the conversation, or leaves out or repeats a message.
    """
    pieces = tokenizer.render(turns).split(mark)
    if len(pieces) != count + 1:
        raise BadRequest(
            "the model's chat template does not write every message once, so the steps cannot "
            "be found in it; use another template, or family Custom with a text"
        )
    return pieces
