"""What scoring is made of: frozen values, and the protocols that tie them together.

    Item --Scorer.lay_out--> Layout --model: the head at `reads`--> rows --combine--> Scores

`Scorer` is a recipe bound to a tokenizer. The model runs `Layout.token_ids` once and its
head at the positions `Layout.reads` alone; the head gives a row of numbers for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from modelworker_api.rewards import Aggregation, Family, ScoreType

Turn = tuple[str, str]
"""Role and content of a message."""
Row = Sequence[float]
"""What the head gives at one read: two candidates' logits, the labels' logits, one value."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to score: what came before it, and its steps."""

    context: tuple[Turn, ...]
    """The conversation before the answer, its last turn the user's."""
    response: str
    """The answer; `spans` index it."""
    spans: tuple[tuple[int, int], ...]
    """First and last-plus-one character of each step, in order; one at least."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The text of each step."""
        return tuple(self.response[start:end] for start, end in self.spans)


@dataclass(frozen=True, slots=True)
class Templated:
    """A whole input that the caller has templated; read at its end, by outcome models."""

    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where one step is, and which row becomes its score."""

    read: int
    """Index into `Layout.reads`."""
    chars: tuple[int, int]
    """Range in the response."""
    tokens: tuple[int, int]
    """Range in `Layout.token_ids`, without the tag."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One input as the model takes it. Two inputs with equal `token_ids` score the same."""

    token_ids: tuple[int, ...]
    reads: tuple[int, ...]
    """Positions in `token_ids` whose hidden states the head gets, ascending."""
    places: tuple[Place, ...]
    """One for each step, in order; of an outcome model one for the whole answer."""
    shared: int = 0
    """Leading tokens that other answers to the same question are likely to have too; a hint."""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class StepScore:
    """One step's score."""

    value: float
    details: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """One input's scores, one for each of its places."""

    steps: tuple[StepScore, ...]


class Tokenizer(Protocol):
    """What laying out needs of a tokenizer. Text is encoded without special tokens of its own."""

    @property
    def bos_id(self) -> int | None:
        """The id that begins an input; None where the tokenizer adds none to a plain text."""

    def encode(self, text: str) -> list[int]:
        """Token ids of the text alone, no BOS added."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The same, and the range of characters that each token covers."""

    def id_of(self, token: str) -> int | None:
        """Id of a vocabulary entry by its exact name, special tokens included."""

    def special_id(self, name: str) -> int | None:
        """Id of `bos`, `eos`, `pad` or `unk` as the tokenizer's settings name them."""

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
        """The conversation by the model's chat template, BOS included where it writes one."""


@dataclass(frozen=True, slots=True)
class ScoringInfo:
    """How a reward worker scores; known once it is loaded."""

    family: Family
    recipe_hash: str
    """Changes whenever the same input may score differently."""
    type: ScoreType
    aggregation: Aggregation
    step_separator: str
    compared: bool
    """Whether the recipe was compared with its reference formula on a real tokenizer."""


class HeadKind(StrEnum):
    """What a checkpoint puts on its last hidden states, and the row it gives at a read."""

    CANDIDATES = "candidates"
    """The language model's head, its rows of `Head.token_ids` alone: one logit for each."""
    CLASSIFIER = "classifier"
    """A linear layer, or two with a ReLU between: one logit for each label."""
    VALUE = "value"
    """A linear layer with one output: that number."""
    VOCABULARY_MEAN = "vocabulary-mean"
    """The mean over the vocabulary of the language model's logits."""
    OBJECTIVES = "objectives"
    """ArmoRM's: the objectives' rewards, the same transformed, and the gate's weights."""
    LOG_RATIO = "log-ratio"
    """log p(next token) of the model minus that of its reference model, both in float32.
    A read at the last token has no next one and must not be asked for."""


@dataclass(frozen=True, slots=True)
class Head:
    """Which head, and for `CANDIDATES` which tokens, in the order of the row."""

    kind: HeadKind
    token_ids: tuple[int, ...] = ()


class Scorer(Protocol):
    """A recipe bound to a tokenizer: every token id was looked up and asserted."""

    @property
    def info(self) -> ScoringInfo:
        """What it is."""

    @property
    def head(self) -> Head:
        """What gives the rows."""

    @property
    def incremental(self) -> bool:
        """Whether a row depends on the tokens up to its read alone, so that it can be kept."""

    def lay_out(self, item: Item | Templated) -> Layout:
        """Tokens and positions of one input.

        Raises:
            StepMismatch: a step cannot be placed; it names the step.
            ContextTooLong: the input is longer than the limit and may not be truncated.
            BadRequest: this recipe cannot take such an item.
        """

    def lay_out_tagged(self, text: str) -> Layout | None:
        """The layout of a text that has the recipe's tags in it; None if it has none.

        Raises:
            Unsupported: the recipe has no tag that stands in the text.
        """

    def combine(self, layout: Layout, rows: Sequence[Row]) -> Scores:
        """The scores, from one row for each read.

        Raises:
            NonFiniteScore: a number is NaN or infinite; it names the step.
        """


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What a checkpoint's files say of it: all that detection may look at."""

    architectures: tuple[str, ...] = ()
    model_type: str = ""
    num_labels: int | None = None
    weights: frozenset[str] = field(default=frozenset(), repr=False)
    """Names of the tensors."""
    mean: float | None = None
    std: float | None = None
    """OpenRLHF's, from config.json."""
