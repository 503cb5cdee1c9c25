"""Conversations in which steps are the user's turns and the assistant answers with a label."""

from dataclasses import dataclass

from modelworker_server.errors import StepMismatch
from modelworker_server.scoring.layouts.pages import (
    Page,
    between_marks,
    encode,
    only_question,
    unused_mark,
)
from modelworker_server.scoring.layouts.ways import Arranged, candidate_id, places_of, require_item
from modelworker_server.scoring.values import Item, Layout, Templated, Tokenizer, Turn


@dataclass(frozen=True, slots=True)
class Answered:
    """The question and the first step in one turn, each further step in one of its own.

    Every turn is answered with `label`, and read at the position before it, which predicts
    it. A model that looks back only gives the same numbers in one pass as in one for each
    step, as long as all earlier turns are answered alike.
    """

    label: str
    by_step: bool = True
    """Else the whole response is in the first turn."""
    delete: str = ""
    """What is left out of the response."""

    def bind(self, tokenizer: Tokenizer) -> "AnsweredArrangement":
        """With the label looked up; see `Way.bind`."""
        return AnsweredArrangement(tokenizer, self, candidate_id(tokenizer, self.label))


@dataclass(frozen=True, slots=True)
class AnsweredArrangement(Arranged):
    """`Answered` with its label's id."""

    way: Answered
    label_id: int

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        item = require_item(item)
        whole = (0, len(item.response))
        texts = self._texts(item)
        pieces = self._template(only_question(item), texts)
        page = Page()
        chars = []
        labels = []
        for i, text in enumerate(texts):
            page.write(pieces[2 * i])
            chars.append(page.write(text.rstrip()))
            page.write(pieces[2 * i + 1])
            labels.append(page.write(self.way.label))
        page.write(pieces[-1])
        encoded = encode(self.tokenizer, page.text)
        for step, label in enumerate(labels):
            if not encoded.is_token(label, self.label_id):
                raise StepMismatch(
                    f"the answer {self.way.label!r} to step {step} became "
                    f"{encoded.became(label)} in the model's chat template",
                    step=step,
                )
        tokens = [encoded.covering(step) for step in chars]
        return Layout(
            token_ids=encoded.ids,
            reads=tuple(encoded.covering(label)[0] - 1 for label in labels),
            places=places_of(item.spans if self.way.by_step else (whole,), tokens),
            shared=tokens[0][0],
        )

    def _texts(self, item: Item) -> list[str]:
        if self.way.by_step:
            return [step.strip() for step in item.steps]
        return [item.response.replace(self.way.delete, "") if self.way.delete else item.response]

    def _template(self, question: str, texts: list[str]) -> list[str]:
        """What the chat template writes around the texts and the labels.

        It sees the white space that a text ends with, so it trims it or not as it would.
        """
        mark = unused_mark((("user", question),))
        turns: list[Turn] = []
        for text in texts:
            opening = "" if turns else f"{question} "
            ending = text[len(text.rstrip()) :]
            turns += [("user", f"{opening}{mark}{ending}"), ("assistant", mark)]
        return between_marks(self.tokenizer, tuple(turns), mark, 2 * len(texts))
