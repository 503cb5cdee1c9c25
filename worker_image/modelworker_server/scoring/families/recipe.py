"""What a recipe is: how a family lays out, which head it reads, and how scores come of it."""

from dataclasses import dataclass

from modelworker_api.rewards import Aggregation, Family, ScoreType
from modelworker_server.scoring.families.links import Link
from modelworker_server.scoring.layouts.ways import Way
from modelworker_server.scoring.values import HeadKind


@dataclass(frozen=True, slots=True)
class Recipe:
    """One family, as plain data."""

    family: Family
    type: ScoreType
    aggregation: Aggregation
    """How its authors, or else those who evaluate it, make one score of the steps'."""
    way: Way
    head: HeadKind
    link: Link
    candidates: tuple[str, ...] = ()
    """Of a `CANDIDATES` head the tokens, in the order of the row."""
    separator: str = "\n\n"
    """What splits a plain response into steps."""
    revision: int = 1
    """Raised with every change that may change a score."""
    not_compared: str = ""
    """Why it was not compared with its reference on a real tokenizer; empty if it was."""

    @property
    def incremental(self) -> bool:
        """Whether a row depends on the tokens up to its read alone."""
        return self.head is not HeadKind.LOG_RATIO
