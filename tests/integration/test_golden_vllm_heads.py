"""Which golden cases vLLM serves; each of the others is refused with the reason."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelworker_api.rewards import VLLM_FAMILIES
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring import recipes
from modelworker_server.workers.reward.loading import bind_recipe
from modelworker_server.workers.vllm.reward_heads import engine_head
from tests import engine_support
from tests.golden_cases import Case
from tests.golden_support import Golden
from tests.golden_tokenizers import Files
from tests.golden_vllm import CASES, GROUPS

FilesOf = Callable[[str], Files]
SERVED = [case for case in CASES.values() if case.family in VLLM_FAMILIES]
REFUSED = [case for case in CASES.values() if case.family not in VLLM_FAMILIES]


def test_every_served_case_has_an_engine() -> None:
    assert sorted(name for names in GROUPS for name in names) == sorted(c.id for c in SERVED)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refused(case: Case, tokenizer_files: FilesOf, tmp_path: Path) -> None:
    """Also where the family is not stated, but found in the checkpoint."""
    golden = Golden.make(case, tokenizer_files(case.tokenizer), tmp_path)
    settings = engine_support.config(tmp_path / "model", scoring=golden.scoring())
    bound = bind_recipe(settings, lambda *_: None, recipes.bind)
    with pytest.raises(LoadError) as raised:
        engine_head(bound, tensor_parallel=1)
    assert raised.value.reason is FailureReason.MODEL_UNSUPPORTED
    assert raised.value.message.endswith("use backend Transformers")
    shutil.rmtree(tmp_path)
