"""Every family's scores against its reference's formula, on tiny models and real tokenizers."""

import shutil
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.golden_custom_cases import CUSTOM
from tests.golden_outcome_cases import OUTCOME
from tests.golden_process import Laid
from tests.golden_process_cases import PROCESS
from tests.golden_support import PROBLEMS, Golden, Problem, difference
from tests.golden_tokenizers import Files

CASES = (*PROCESS, *OUTCOME, *CUSTOM)
GROWING = (PROBLEMS[0], PROBLEMS[2])


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
    assert difference(golden.scores(shifted(golden)), expected) > 1000 * golden.case.tolerance


def shifted(golden: Golden) -> list[Laid]:
    """The reference's inputs, read one position too early."""
    laid = golden.lay(PROBLEMS)
    return [Laid(one.ids, [read - 1 for read in one.reads], one.start) for one in laid]


def test_float32(golden: Golden) -> None:
    expected = golden.alone(PROBLEMS)
    with golden.serving() as serving:
        together = serving.scores(PROBLEMS)
        alone = [serving.scores([problem])[0] for problem in PROBLEMS]
    assert difference(alone, expected) <= golden.case.tolerance
    assert difference(together, expected) <= golden.case.tolerance


def test_bfloat16(golden: Golden) -> None:
    calm = Golden.make(golden.case, golden.files, golden.folder / "calm", calm=True)
    half = calm.to(torch.bfloat16)
    expected = half.alone(PROBLEMS)
    with half.serving("bfloat16") as serving:
        together = serving.scores(PROBLEMS)
        alone = [serving.scores([problem])[0] for problem in PROBLEMS]
    tolerance = 100 * golden.case.tolerance
    assert difference(alone, expected) <= tolerance
    assert difference(together, expected) <= tolerance
    assert difference(half.scores(shifted(half)), expected) > 3 * tolerance


def test_growing_answer(golden: Golden) -> None:
    """A step more each time, then another end, with what was computed before kept."""
    with golden.serving(cache_tokens=4096, max_batch_tokens=256) as serving:
        for question, steps in ((problem.question, problem.steps) for problem in GROWING):
            counts = range(1, len(steps) + 1)
            for grown in [*(steps[:count] for count in counts), (*steps[:1], "Another end.")]:
                answer = [Problem(question, grown)]
                expected = golden.alone(answer)
                for _ in range(2):
                    assert difference(serving.scores(answer), expected) <= golden.case.tolerance
