"""Planning batches, and the self-test's verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError, NonFiniteScore, StepMismatch
from modelworker_server.scoring.batching import cost_of, plan
from modelworker_server.scoring.values import Item, Layout, Scores, StepScore, Templated
from modelworker_server.workers.reward.selftest import self_test
from modelworker_server.workers.sequences import Result
from tests.reward_support import TinyScorer

# --- planning --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Waiting:
    own_length: int
    prefix_length: int = 0
    group: object = None


WAITING = st.builds(
    Waiting,
    own_length=st.integers(0, 60),
    prefix_length=st.integers(0, 60),
    group=st.sampled_from([None, "a", "b"]),
)


@given(st.lists(WAITING, min_size=1, max_size=40), st.integers(1, 300))
def test_a_batch_has_the_oldest_input_and_keeps_to_the_budget(
    waiting: list[Waiting], budget: int
) -> None:
    batch = plan(waiting, budget)
    assert any(one is waiting[0] for one in batch)
    assert len({id(one) for one in batch}) == len(batch)
    assert len(batch) == 1 or cost_of(batch) <= budget


def test_alike_lengths_run_together() -> None:
    waiting = [Waiting(n) for n in (10, 100, 11, 99, 12, 98)]
    assert [one.own_length for one in plan(waiting, 40)] == [12, 11, 10]
    assert [one.own_length for one in plan(waiting[1:], 300)] == [100, 99, 98]


def test_a_question_is_finished_before_the_next_begins() -> None:
    waiting = [Waiting(n, group=group) for n, group in zip(range(20, 26), "abacba", strict=True)]
    batch = plan(waiting, 100)
    assert [one.group for one in batch] == ["a", "a", "a", "b"]


def test_a_known_prefix_counts_a_quarter() -> None:
    waiting = [Waiting(10, prefix_length=40) for _ in range(10)]
    assert len(plan(waiting, 100)) == 5


# --- the self-test ---------------------------------------------------------------------------

SCORER = TinyScorer()


def constant(layouts: Sequence[Layout]) -> list[Result]:
    return [Scores(tuple(StepScore(0.5) for _ in layout.places)) for layout in layouts]


@pytest.mark.parametrize(
    ("dtype", "apart", "passes"),
    [
        pytest.param("float32", 0.0005, True, id="float32-rounding"),
        pytest.param("float32", 0.002, False, id="float32-wrong"),
        pytest.param("bfloat16", 0.02, True, id="bfloat16-rounding"),
        pytest.param("float16", 0.04, False, id="float16-wrong"),
    ],
)
@pytest.mark.parametrize("where", ["batch", "kept"])
def test_scores_may_differ_by_rounding_alone(
    dtype: str, apart: float, passes: bool, where: str
) -> None:
    def score(layouts: Sequence[Layout]) -> list[Result]:
        shift = apart if len(layouts) > 1 and where == "batch" else 0.0
        return [Scores(tuple(StepScore(0.5 + shift) for _ in one.places)) for one in layouts]

    def extend(_: Layout, whole: Layout) -> Result:
        shift = apart if where == "kept" else 0.0
        return Scores(tuple(StepScore(0.5 + shift) for _ in whole.places))

    if passes:
        self_test(SCORER, score, extend, dtype=dtype)
        return
    with pytest.raises(LoadError, match="apart") as caught:
        self_test(SCORER, score, extend, dtype=dtype)
    assert caught.value.reason is FailureReason.BATCH_MISMATCH


def test_unbounded_scores_are_compared_by_their_size() -> None:
    def score(layouts: Sequence[Layout]) -> list[Result]:
        value = 100.0 if len(layouts) == 1 else 100.05
        return [Scores(tuple(StepScore(value) for _ in one.places)) for one in layouts]

    self_test(SCORER, score, None, dtype="float32")


def test_without_a_cache_nothing_is_extended() -> None:
    self_test(SCORER, constant, None, dtype="float32")


@pytest.mark.parametrize(
    ("result", "reason", "says"),
    [
        pytest.param(
            NonFiniteScore("step 0 is NaN", step=0),
            FailureReason.NON_FINITE_SCORE,
            "step 0 is NaN",
            id="not-finite",
        ),
        pytest.param(
            Scores((StepScore(float("inf")), StepScore(0.0))),
            FailureReason.NON_FINITE_SCORE,
            "inf",
            id="infinite",
        ),
        pytest.param(
            Scores((StepScore(0.5),)),
            FailureReason.SCORE_SHAPE_MISMATCH,
            "1 scores came back for 2 places",
            id="too-few",
        ),
        pytest.param(
            StepMismatch("no tag", step=1),
            FailureReason.SCORE_SHAPE_MISMATCH,
            "was not scored: no tag",
            id="an-error",
        ),
    ],
)
def test_what_is_no_score_for_each_step(result: Result, reason: FailureReason, says: str) -> None:
    with pytest.raises(LoadError, match=says) as caught:
        self_test(SCORER, lambda layouts: [result] * len(layouts), None, dtype="float32")
    assert caught.value.reason is reason


class Refusing(TinyScorer):
    """A recipe that cannot place the example."""

    def lay_out(self, item: Item | Templated) -> Layout:
        raise StepMismatch("step 0 has no tag", step=0)


def test_an_example_that_cannot_be_laid_out() -> None:
    with pytest.raises(LoadError, match="step 0 has no tag") as caught:
        self_test(Refusing(), constant, None, dtype="float32")
    assert caught.value.reason is FailureReason.SCORE_SHAPE_MISMATCH
