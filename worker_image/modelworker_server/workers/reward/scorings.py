"""One request for scores inside the engine, and the inputs that it is made of."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelworker_server.errors import BadRequest, WorkerError, bug
from modelworker_server.scoring.values import Layout, Row, Scorer
from modelworker_server.workers.sequences import Call, Delivery, Result, Scored

_log = logging.getLogger(__name__)


class Scoring(Call):
    """Inputs to score, and what became of them so far. Equal inputs are run once."""

    def __init__(self, layouts: Sequence[Layout], deliver: Callable[[Delivery], None]) -> None:
        super().__init__(deliver)
        self.layouts = tuple(layouts)
        self.results: list[Result | None] = [None] * len(layouts)
        self.begun = False
        """Whether one of its inputs has been run."""

    def jobs(self) -> list["ScoreJob"]:
        """One for each input that differs from the others."""
        jobs: dict[tuple[tuple[int, ...], tuple[int, ...]], ScoreJob] = {}
        for index, layout in enumerate(self.layouts):
            job = jobs.setdefault((layout.token_ids, layout.reads), ScoreJob(self, layout))
            job.indices.append(index)
        return list(jobs.values())

    def result(self) -> Scored | None:
        """What to deliver; None while an input is still missing."""
        done = tuple(result for result in self.results if result is not None)
        return Scored(done) if len(done) == len(self.results) else None


@dataclass(slots=True, eq=False)
class Shared:
    """What several inputs begin with."""

    tokens: tuple[int, ...]
    waiting: int = 0
    """Inputs that wait and begin with it."""
    apart: bool = False
    """Whether it is run by itself, once for all of them."""


class ScoreJob:
    """One input to run, as far as its last read: what comes after cannot change its scores."""

    def __init__(self, call: Scoring, layout: Layout) -> None:
        self.call = call
        self.reads = layout.reads
        self.indices: list[int] = []
        """Which of the call's layouts it is."""
        self.tokens = layout.token_ids[: layout.reads[-1] + 1]
        following = (*layout.token_ids[1:], -1)
        self.next_ids = tuple(following[read] for read in layout.reads)
        """The token after each read; -1 where there is none."""
        # A row may depend on the token after its read, so no read stands in what is shared.
        self.leading = layout.token_ids[: min(layout.shared, layout.reads[0])]
        """Tokens that other inputs may begin with, too."""
        self.shared: Shared | None = None
        """The same among the waiting inputs."""
        self.known = 0
        """Leading tokens that need not be run, as of the last look."""
        self.alone = False
        """Whether memory ran out when it was run by itself."""

    @property
    def group(self) -> Shared | None:
        """What it has in common with others, if that is run by itself."""
        return self.shared if self.shared is not None and self.shared.apart else None

    @property
    def prefix_length(self) -> int:
        """Tokens that are known, or will be when what is shared has been run."""
        return max(self.known, len(self.leading) if self.group is not None else 0)

    @property
    def own_length(self) -> int:
        """Tokens that remain to be run."""
        return len(self.tokens) - self.prefix_length


def combined(scorer: Scorer, layout: Layout, rows: Sequence[Row]) -> Result:
    """An input's scores from what the head gave, or the error of that input alone."""
    try:
        return scorer.combine(layout, rows)
    except WorkerError as error:
        return error
    except Exception as error:
        _log.exception("a row could not be made a score")
        return bug(error)


def unknown_token(layout: Layout, limit: int) -> BadRequest | None:
    """Why a layout cannot be run: a token that the tokenizer has and the model has not.

    Args:
        layout: one input.
        limit: the model's tokens are below it.
    """
    largest = max(layout.token_ids)
    if largest < limit:
        return None
    return BadRequest(
        f"the input has the token {largest}, which the tokenizer knows and the model does not; "
        "leave that special token out of the text"
    )
