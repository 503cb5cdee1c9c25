"""A tokenizer small enough to read, for tests of laying out."""

import re
from collections.abc import Iterator, Sequence

from modelworker_api.rewards import Family, ScoringConfig
from modelworker_server.errors import BadRequest
from modelworker_server.scoring import recipes
from modelworker_server.scoring.steps import item_from_steps
from modelworker_server.scoring.values import (
    CheckpointFacts,
    Item,
    Layout,
    Scorer,
    Turn,
)

SPECIALS = ("<s>", "</s>", "<unk>", "<pad>", "<extra_0>", "<|reward|>", "<im>", "</im>", "<eot>")
_PIECE = re.compile(
    # As byte-level BPE splits: words with their space, digits, signs that take the new lines
    # behind them, white space.
    r" ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACED = {"ки": " ки"}
"""The same token with and without a space before it, as SentencePiece has at a text's start."""


class FakeTokenizer:
    """Splits as Qwen's does, numbers pieces as they come, and has a chat template of its own."""

    def __init__(
        self,
        *,
        bos: bool = False,
        names: dict[str, str] | None = None,
        template: bool = True,
        trims: bool = False,
        specials: Sequence[str] = SPECIALS,
        says: str = "",
    ) -> None:
        self._ids: dict[str, int] = {}
        self._specials = re.compile(f"({'|'.join(map(re.escape, specials))})")
        self._special_names = frozenset(specials)
        self._names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"} if names is None else names
        self._template = template
        self._trims = trims
        self._says = says
        for name in specials:
            self._id(name)
        self.bos_id = self._id("<s>") if bos else None

    def _id(self, piece: str) -> int:
        return self._ids.setdefault(_SPACED.get(piece, piece), len(self._ids) + 100)

    def encode(self, text: str) -> list[int]:
        return self.encode_with_offsets(text)[0]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        spans = list(self.split(text))
        return [self._id(text[start:end]) for start, end in spans], spans

    def split(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the tokens are."""
        at = 0
        for part in self._specials.split(text):
            if part in self._special_names:
                yield at, at + len(part)
            else:
                yield from ((at + m.start(), at + m.end()) for m in _PIECE.finditer(part))
            at += len(part)

    def id_of(self, token: str) -> int | None:
        return self._ids.get(token) if token in self._special_names else None

    def special_id(self, name: str) -> int | None:
        return self.id_of(self._names.get(name, ""))

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
        if not self._template:
            raise BadRequest("this model has no chat template")
        start = "<s>" if self.bos_id is not None else ""
        if self._says and turns[0][0] != "system":
            start += f"<im>system\n{self._says}</im>\n"
        text = start + "".join(
            f"<im>{role}\n{content.strip() if self._trims else content}</im>\n"
            for role, content in turns
        )
        return f"{text}<im>assistant\n" if add_generation_prompt else text

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token."""
        texts = {number: piece for piece, number in self._ids.items()}
        return [texts[number] for number in token_ids]


class LineTokenizer(FakeTokenizer):
    """Every new line is a token of its own, as in the tokenizer of Llemma."""

    def split(self, text: str) -> Iterator[tuple[int, int]]:
        for start, end in super().split(text):
            cut = start + len(text[start:end].rstrip("\n"))
            if cut > start:
                yield start, cut
            yield from ((i, i + 1) for i in range(cut, end))


def shown(tokenizer: FakeTokenizer, layout: Layout) -> str:
    """The layout's text, with ⟦ ⟧ around the tokens that are read."""
    pieces = tokenizer.pieces(layout.token_ids)
    for read in layout.reads:
        pieces[read] = f"⟦{pieces[read]}⟧"
    return "".join(pieces)


def bound(
    config: ScoringConfig,
    tokenizer: FakeTokenizer,
    facts: CheckpointFacts | None = None,
    max_tokens: int = 10_000,
) -> Scorer:
    """A recipe bound to the tokenizer."""
    return recipes.bind(config, facts or CheckpointFacts(), tokenizer, max_tokens=max_tokens)


def named(family: Family, **options: object) -> ScoringConfig:
    """The configuration of a named family, with the reference model that some need."""
    recipe = recipes.RECIPES[family]
    if family in {Family.EURUS_PRM, Family.IMPLICIT_PRM}:
        options.setdefault("reference", {"source": "local", "model": "/reference"})
        options.setdefault("beta", 0.001)
    return ScoringConfig.model_validate({"type": recipe.type, "family": family, **options})


def item(*steps: str, question: str = "Q?", separator: str = "\n\n") -> Item:
    """An answer of these steps to one question."""
    return item_from_steps((("user", question),), steps, separator)
