"""A recipe bound to a checkpoint and its tokenizer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelworker_api.rewards import Overflow
from modelworker_server.scoring.families.links import Link
from modelworker_server.scoring.layouts.fitting import fit
from modelworker_server.scoring.layouts.ways import Arranged
from modelworker_server.scoring.values import (
    Head,
    Item,
    Layout,
    Row,
    Scores,
    ScoringInfo,
    Templated,
)


@dataclass(frozen=True, slots=True)
class RecipeScorer:
    """See `values.Scorer`."""

    info: ScoringInfo
    head: Head
    incremental: bool
    arranged: Arranged
    link: Link
    max_tokens: int
    overflow: Overflow

    def lay_out(self, item: Item | Templated) -> Layout:
        """See `Scorer.lay_out`."""
        return self._fitted(self.arranged.lay_out(item))

    def lay_out_tagged(self, text: str) -> Layout | None:
        """See `Scorer.lay_out_tagged`; a text that is too long is refused or truncated too."""
        layout = self.arranged.lay_out_tagged(text)
        return None if layout is None else self._fitted(layout)

    def combine(self, layout: Layout, rows: Sequence[Row]) -> Scores:
        """See `Scorer.combine`.

        Raises:
            NonFiniteScore: a number is NaN or infinite; it names the step.
            ValueError: there are more or fewer rows than reads, or a row is of another width
                than the recipe's: the head is not the one that was asked for.
        """
        if len(rows) != len(layout.reads):
            raise ValueError(f"the head gave {len(rows)} rows for {len(layout.reads)} reads")
        return Scores(self.link.scores(layout, rows))

    def _fitted(self, layout: Layout) -> Layout:
        return fit(
            layout,
            max_tokens=self.max_tokens,
            overflow=self.overflow,
            bos_id=self.arranged.tokenizer.special_id("bos"),
        )


def recipe_hash(parts: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that depend on all parts, by their JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
