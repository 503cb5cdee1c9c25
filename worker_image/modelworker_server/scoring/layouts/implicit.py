"""Implicit rewards: every token from the answer's beginning on is read."""

from dataclasses import dataclass
from itertools import pairwise

from modelworker_server.errors import BadRequest, StepMismatch
from modelworker_server.scoring.layouts.pages import ChatFrame, Encoded, encode
from modelworker_server.scoring.layouts.ways import Arranged, require_item
from modelworker_server.scoring.steps import Span
from modelworker_server.scoring.values import Item, Layout, Place, Templated, Tokenizer

_JOIN = "\n\n"


@dataclass(frozen=True, slots=True)
class Implicit:
    """A chat whose answer is the steps with a blank line between two; reads predict tokens.

    A step's position is `len(tokens) - 2` of the chat that ends with this step, without
    white space around it, and with a blank line after it for every step but the last. That
    chat ends with an end-of-turn token which the whole one does not have there, so the last
    token that is counted for an inner step is the first or second one of the next step: a
    last step of one token adds nothing. The sum begins with the token at the position of an
    empty answer.
    """

    def bind(self, tokenizer: Tokenizer) -> "ImplicitArrangement":
        """See `Way.bind`; there is no token to look up."""
        return ImplicitArrangement(tokenizer)


@dataclass(frozen=True, slots=True)
class ImplicitArrangement(Arranged):
    """`Implicit` with a tokenizer."""

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        steps = item.steps
        text = self._chat(item, _JOIN.join(steps))
        encoded = encode(self.tokenizer, text)
        # The first read predicts the token at the empty answer's position.
        start = max(self._position(item, 0) - 1, 0)
        ends = [self._position(item, count) for count in range(1, len(steps))]
        ends.append(len(encode(self.tokenizer, text.strip()).ids) - 2)
        for step, (before, end) in enumerate(pairwise([start, *ends])):
            if end < before:
                raise StepMismatch(
                    f"step {step} ends before the tokens that the one before it is scored by: "
                    "white space merges the two; put them together",
                    step=step,
                )
        tokens = [encoded.covering(span) for span in self._spans(item, text)]
        return Layout(
            token_ids=encoded.ids,
            reads=tuple(range(start, ends[-1] + 1)),
            places=tuple(
                Place(end - start, chars, covered)
                for end, chars, covered in zip(ends, item.spans, tokens, strict=True)
            ),
            shared=tokens[0][0],
        )

    def _chat(self, item: Item, answer: str) -> str:
        return self.tokenizer.render((*item.context, ("assistant", answer)))

    def _position(self, item: Item, count: int) -> int:
        """Where the answer of the first `count` steps ends, which others follow."""
        text = self._chat(item, _JOIN.join(item.steps[:count])).strip()
        encoded: Encoded = encode(self.tokenizer, f"{text}{_JOIN}" if count else text)
        return len(encoded.ids) - 2

    def _spans(self, item: Item, text: str) -> list[Span]:
        """Where the steps are in the whole text."""
        before, _ = ChatFrame().around(self.tokenizer, item)
        answer = _JOIN.join(item.steps)
        begin = len(before)
        if not text.startswith(answer, begin):
            begin -= len(answer) - len(answer.lstrip())
            if not text.startswith(answer.strip(), len(before)):
                raise BadRequest(
                    "the model's chat template rewrites the answer, so its steps cannot be found"
                )
        spans = []
        for step in item.steps:
            spans.append((max(begin, 0), max(begin, 0) + len(step)))
            begin += len(step) + len(_JOIN)
        return spans
