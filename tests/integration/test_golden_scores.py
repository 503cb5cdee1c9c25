"""Every family's scores against its reference's formula, on tiny models and real tokenizers."""

import shutil
from collections.abc import Callable, Iterator

import pytest
import torch

from modelworker_api.rewards import ScoreType
from tests.golden_outcome_cases import OUTCOME
from tests.golden_process import Laid
from tests.golden_process_cases import PROCESS
from tests.golden_support import PROBLEMS, Golden, Problem, difference
from tests.golden_tokenizers import Files

CASES = (*PROCESS, *OUTCOME)
BFLOAT16 = 1e-3


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def golden(
    request: pytest.FixtureRequest,
    tokenizer_files: Callable[[str], Files],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Golden]:
    folder = tmp_path_factory.mktemp("golden")
    yield Golden.make(request.param, tokenizer_files(request.param.tokenizer), folder)
    shutil.rmtree(folder)


def test_reference_is_sound(golden: Golden) -> None:
    """Padding does not change it, and a position next to the right one gives another score."""
    laid, expected = golden.lay(PROBLEMS), golden.alone(PROBLEMS)
    for side in ("left", "right"):
        assert difference(golden.scores(laid, side), expected) < golden.case.tolerance
    moved = [Laid(one.ids, [read - 1 for read in one.reads], one.start) for one in laid]
    shifted = golden.scores(moved)
    assert difference(shifted, expected) > 1000 * golden.case.tolerance


def test_float32(golden: Golden) -> None:
    expected = golden.alone(PROBLEMS)
    with golden.serving() as serving:
        together = serving.scores(PROBLEMS)
        alone = [serving.scores([problem])[0] for problem in PROBLEMS]
    assert difference(alone, expected) <= golden.case.tolerance
    assert difference(together, expected) <= golden.case.tolerance


def test_bfloat16(golden: Golden) -> None:
    expected = golden.to(torch.bfloat16).alone(PROBLEMS)
    with golden.serving("bfloat16") as serving:
        together = serving.scores(PROBLEMS)
        alone = [serving.scores([problem])[0] for problem in PROBLEMS]

    assert difference(alone, expected) <= BFLOAT16
    assert difference(together, expected) <= BFLOAT16


def test_growing_answer(golden: Golden) -> None:
    """A step more each time, with the keys and values of the steps before kept."""
    if golden.case.type is ScoreType.OUTCOME:
        pytest.skip("its one score is of the whole answer")
    with golden.serving(cache_tokens=4096, max_batch_tokens=256) as serving:
        for problem in PROBLEMS:
            for count in range(1, len(problem.steps) + 1):
                grown = [Problem(problem.question, problem.steps[:count])]
                expected = golden.alone(grown)
                for _ in range(2):
                    assert difference(serving.scores(grown), expected) <= golden.case.tolerance
