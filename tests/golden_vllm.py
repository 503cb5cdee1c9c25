"""The golden cases on vLLM: which of them one engine can serve, and workers that do."""

import asyncio
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from vllm.v1.engine.async_llm import AsyncLLM

from modelworker_api.engine import VLLMConfig
from modelworker_server.scoring import recipes
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.vllm.engine import start, stop
from modelworker_server.workers.vllm.reward import VLLMRewardWorker
from modelworker_server.workers.vllm.stats import EngineStats
from tests import engine_support
from tests.golden_cases import QWEN_VOCABULARY, Case
from tests.golden_custom_cases import CUSTOM
from tests.golden_outcome_cases import OUTCOME
from tests.golden_process_cases import PROCESS
from tests.golden_support import Golden, Serving
from tests.golden_tokenizers import Files

GROUPS: Final = (
    ("RLHFlowPRMDeepseek", "RLHFlowPRMMistral", "RLHFlowORMDeepseek", "RLHFlowORMMistral"),
    ("MathShepherd", "Custom-at-tag"),
    ("MathPSA",),
    ("Verdict",),
    ("QwenMathPRM", "QwenMathPRM-appended-tag", "ReasonFluxPRM"),
    ("PUREPRM", "TRLPRM-paragraphs"),
    ("TRLPRM", "Custom-before-tag", "Custom-end-of-step"),
    ("QwenMathRM",),
    ("OpenRLHFRM",),
    ("SequenceClassifier",),
    ("Custom-last-token",),
)
"""Cases whose models are the same, so that one engine serves them: starting one takes long."""

CASES: Final[dict[str, Case]] = {case.id: case for case in (*PROCESS, *OUTCOME, *CUSTOM)}

_GROUPED: Final = {"num_key_value_heads": 2, "head_dim": 32}
_SINGLE: Final = {"num_attention_heads": 1, "num_key_value_heads": 1}
_HEADS: Final = {"llama": _GROUPED, "mistral": _GROUPED, "qwen2": _SINGLE}
"""Heads of 32 by model type: vLLM's attention on a CPU has none that are smaller."""

ENGINE: Final = VLLMConfig(
    enforce_eager=True,
    kv_cache_memory_bytes=2**28,
    # The smallest, so that short inputs have something in the prefix cache.
    extra_args=("--block-size", "32"),
)


def golden_for(case: Case, files: Files, folder: Path, *, calm: bool = False) -> Golden:
    """A case with a model that vLLM's attention on a CPU can run."""
    # One size of the vocabulary makes models equal whose tokenizers are not.
    shape = {**_HEADS[case.model_type], "vocab_size": QWEN_VOCABULARY}
    return Golden.make(case, files, folder, calm=calm, shape=shape)


@dataclass(frozen=True, slots=True)
class Served:
    """A case, and a worker that serves it on vLLM."""

    golden: Golden
    serving: Serving


@contextmanager
def serving_all(goldens: list[Golden], dtype: str = "float32") -> Iterator[list[Served]]:
    """A worker for each, all on one engine, which loads the first one's checkpoint."""
    engines: list[AsyncLLM] = []

    def share(arguments: Namespace, stats: EngineStats) -> AsyncLLM:
        if not engines:
            engines.append(start(arguments, stats))
        return engines[0]

    with asyncio.Runner() as runner:
        try:
            yield [Served(golden, _load(runner, golden, dtype, share)) for golden in goldens]
        finally:
            runner.run(_stop(engines))


def settings_for(golden: Golden, dtype: str = "float32", **changes: Any) -> ModelConfig:
    """The configuration of a worker that serves a case on vLLM."""
    options = {"dtype": dtype, "scoring": golden.scoring(), "vllm": ENGINE, **changes}
    return engine_support.config(golden.folder / "model", **options)


def _load(
    runner: asyncio.Runner,
    golden: Golden,
    dtype: str,
    share: Callable[[Namespace, EngineStats], AsyncLLM],
) -> Serving:
    worker = VLLMRewardWorker(settings_for(golden, dtype), recipes.bind, start=share)
    runner.run(worker.load(lambda *_: None))
    return Serving(runner, worker)


async def _stop(engines: list[AsyncLLM]) -> None:
    for engine in engines:
        stop(engine)


def same_model(one: Golden, other: Golden) -> bool:
    """Whether two cases have equal weights."""
    return all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(_weights(one), _weights(other), strict=True)
    )


def _weights(golden: Golden) -> list[Any]:
    modules = (golden.model.base, *golden.model.heads.values())
    return [tensor for module in modules for tensor in module.state_dict().values()]
