"""A reward worker without a model: its tokens are bytes, its scores follow from the text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from zlib import crc32

from modelworker_api.rewards import Aggregation, Family, ScoreType
from modelworker_server.errors import (
    BadRequest,
    ContextTooLong,
    StepMismatch,
    Unsupported,
    WorkerError,
)
from modelworker_server.scoring.values import (
    Item,
    Layout,
    Place,
    Scores,
    ScoringInfo,
    StepScore,
    Templated,
)
from modelworker_server.workers.base import BaseModelWorker, ModelInfo
from tests.fake_worker import FakeWorker

TAG = "#"
"""Stands after each step; a step must not hold one, which is a `StepMismatch`."""
SEPARATOR = "\n\n"
"""What splits a response into steps by default."""
INFO = ModelInfo(
    name="prm",
    aliases=frozenset({"lab/prm", "org/prm-7b"}),
    root="/models/prm",
    revision="rev-1",
    dtype="float32",
    max_model_len=512,
    created=1_700_000_000,
    vocab_size=256,
)


def score_of(text: str) -> float:
    """The score that is read after `text`: from 0 to 1, another for every text."""
    return crc32(text.encode()) / 2**32


def question_text(question: str) -> str:
    """How the model sees a question."""
    return f"user:{question}|"


def step_scores(question: str, steps: Sequence[str]) -> list[float]:
    """What a process model gives for an answer: each score depends on all steps up to its own."""
    text = question_text(question)
    return [score_of(text := f"{text}{step}{TAG}") for step in steps]


def answer_score(question: str, response: str) -> float:
    """What an outcome model gives for an answer."""
    return score_of(question_text(question) + response)


class FakeRewardWorker(FakeWorker):
    """Deterministic, with the pace of a `FakeWorker`: `step` is awaited once for each batch.

    Inputs longer than `INFO.max_model_len` bytes, and steps with a `TAG` in them, fail while
    they are laid out. `failures` holds what else fails: inputs whose text holds a key.

    Args:
        kind: One score for each step, or one for the whole answer.
        revision: Of the model, for tests on a change of it.
        recipe_hash: The same for its recipe.
    """

    generate = BaseModelWorker.generate
    stream = BaseModelWorker.stream
    embed = BaseModelWorker.embed

    def __init__(
        self,
        kind: ScoreType = ScoreType.PROCESS,
        *,
        revision: str = INFO.revision,
        recipe_hash: str = "0123456789abcdef",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.revision = revision
        self.recipe_hash = recipe_hash
        self.failures: Mapping[str, WorkerError] = {}
        self.batches: list[list[str]] = []
        """The texts of each call of `score`."""

    @property
    def info(self) -> ModelInfo:
        return replace(INFO, revision=self.revision)

    @property
    def scoring(self) -> ScoringInfo:
        process = self.kind is ScoreType.PROCESS
        return ScoringInfo(
            family=Family.MATH_PSA if process else Family.SEQUENCE_CLASSIFIER,
            recipe_hash=self.recipe_hash,
            type=self.kind,
            aggregation=Aggregation.MIN if process else Aggregation.LAST,
            step_separator=SEPARATOR,
            compared=True,
        )

    def lay_out(self, item: Item | Templated) -> Layout:
        if isinstance(item, Item):
            context = "".join(f"{role}:{content}|" for role, content in item.context)
            if self.kind is ScoreType.PROCESS:
                return self._tagged(context, item.steps, item.spans)
            return self._whole(context + item.response, len(context.encode()), len(item.response))
        if self.kind is ScoreType.PROCESS:
            raise BadRequest("this recipe scores steps; send question with response or steps")
        return self._whole(item.text, 0, len(item.text))

    def lay_out_tagged(self, text: str) -> Layout | None:
        if self.kind is ScoreType.OUTCOME:
            raise Unsupported("this recipe has no step tag; POST to /v1/rewards")
        *steps, _ = text.split(TAG)
        if not steps:
            return None
        spans = []
        end = -len(TAG)
        for step in steps:
            start = end + len(TAG)
            end = start + len(step)
            spans.append((start, end))
        return self._tagged("", steps, spans)

    async def score(self, layouts: Sequence[Layout]) -> list[Scores | WorkerError]:
        with self._call():
            await self.step()  # type: ignore[misc]
            self.batches.append([self.decode(layout.token_ids) for layout in layouts])
            return [self._scores(layout) for layout in layouts]

    def _scores(self, layout: Layout) -> Scores | WorkerError:
        text = self.decode(layout.token_ids)
        for key, failure in self.failures.items():
            if key in text:
                return failure
        return Scores(
            tuple(
                StepScore(score_of(self.decode(layout.token_ids[: layout.reads[place.read] + 1])))
                for place in layout.places
            )
        )

    def _tagged(
        self, context: str, steps: Sequence[str], spans: Sequence[tuple[int, int]]
    ) -> Layout:
        ids = self.encode(context)
        shared = len(ids)
        reads, places = [], []
        for index, (step, chars) in enumerate(zip(steps, spans, strict=True)):
            if TAG in step:
                raise StepMismatch(f"step {index} holds the tag {TAG!r}; cut it out", step=index)
            start = len(ids)
            ids += self.encode(step)
            places.append(Place(read=index, chars=chars, tokens=(start, len(ids))))
            reads.append(len(ids))
            ids += self.encode(TAG)
        return self._fitting(Layout(tuple(ids), tuple(reads), tuple(places), shared=shared))

    def _whole(self, text: str, start: int, characters: int) -> Layout:
        ids = tuple(self.encode(text))
        place = Place(read=0, chars=(0, characters), tokens=(start, len(ids)))
        return self._fitting(Layout(ids, (len(ids) - 1,), (place,), shared=start))

    def _fitting(self, layout: Layout) -> Layout:
        if len(layout.token_ids) > INFO.max_model_len:
            raise ContextTooLong(
                f"this model's maximum context length is {INFO.max_model_len} tokens; the input "
                f"has {len(layout.token_ids)}: shorten it"
            )
        return layout
