"""Scores on vLLM against the references' formulas, by the cases of the other backend."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.golden_support import PROBLEMS, Problem, difference
from tests.golden_tokenizers import Files
from tests.golden_vllm import CASES, GROUPS, Served, golden_for, same_model, serving_all

FilesOf = Callable[[str], Files]
GROWING = (PROBLEMS[0], PROBLEMS[2])


@pytest.fixture(scope="module", params=GROUPS, ids=lambda names: names[0])
def group(
    request: pytest.FixtureRequest,
    tokenizer_files: FilesOf,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Served]]:
    folder = tmp_path_factory.mktemp("golden")
    cases = [CASES[name] for name in request.param]
    goldens = [golden_for(c, tokenizer_files(c.tokenizer), folder / c.id) for c in cases]
    assert all(same_model(goldens[0], other) for other in goldens[1:])
    with serving_all(goldens) as served:
        yield served
    shutil.rmtree(folder)


def test_float32(group: list[Served]) -> None:
    for golden, serving in ((one.golden, one.serving) for one in group):
        expected = golden.alone(PROBLEMS)
        together = serving.scores(PROBLEMS)
        alone = [serving.scores([problem])[0] for problem in PROBLEMS]
        assert difference(together, expected) <= golden.case.tolerance, golden.case.id
        assert difference(alone, expected) <= golden.case.tolerance, golden.case.id


def test_growing_answer(group: list[Served]) -> None:
    """A step more each time, then another end, upon what the engine's prefix cache has."""
    for golden, serving in ((one.golden, one.serving) for one in group):
        for question, steps in ((problem.question, problem.steps) for problem in GROWING):
            counts = range(1, len(steps) + 1)
            for grown in [*(steps[:count] for count in counts), (*steps[:1], "Another end.")]:
                answer = [Problem(question, grown)]
                expected = golden.alone(answer)
                found = serving.scores(answer)
                assert difference(found, expected) <= golden.case.tolerance, golden.case.id


def test_bfloat16(tokenizer_files: FilesOf, tmp_path: Path) -> None:
    case = CASES["QwenMathPRM"]
    golden = golden_for(case, tokenizer_files(case.tokenizer), tmp_path, calm=True)
    half = golden.to(torch.bfloat16)
    with serving_all([half], "bfloat16") as (served,):
        found = served.serving.scores(PROBLEMS)
    assert difference(found, half.alone(PROBLEMS)) <= 100 * case.tolerance
    shutil.rmtree(tmp_path)
