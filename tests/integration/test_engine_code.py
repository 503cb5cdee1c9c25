"""Models that bring code along: it runs where an administrator allowed it, and nowhere else."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import transformers.dynamic_module_utils

from modelworker_api.rewards import Family, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring import recipes
from modelworker_server.workers.base import ModelConfig, ModelInfo
from modelworker_server.workers.registry import create
from modelworker_server.workers.reward.loading import load_reward
from tests.engine_support import config, save
from tests.fake_hub import COMMIT, Hub, serving
from tests.own_code import CLASSES, change, save_own


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_own(tmp_path_factory.mktemp("own"))


@pytest.fixture
def hub(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = tmp_path / "own"
    shutil.copytree(own, folder)
    path, modules = [*sys.path], {*sys.modules}
    with serving(Hub("acme/own", folder)) as hub:
        yield hub
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


def remote(hub: Hub, *, trusted: bool, **changes: Any) -> ModelConfig:
    return config(
        Path("acme/own"),
        source="huggingFace",
        revision=COMMIT,
        endpoint=hub.url,
        trust_remote_code=trusted,
        **changes,
    )


def loaded(settings: ModelConfig, backend: str = "transformers") -> ModelInfo | LoadError:
    """What is served, or why not."""

    async def run() -> ModelInfo | LoadError:
        worker = create(backend, settings)
        try:
            await worker.load(lambda _state, _percent: None)
        except LoadError as error:
            return error
        finally:
            await worker.close()
        return worker.info

    return asyncio.run(run())


def downloaded(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}


def test_code_that_was_allowed_runs(hub: Hub, tmp_path: Path) -> None:
    info = loaded(remote(hub, trusted=True))
    assert isinstance(info, ModelInfo), info
    assert info.revision == COMMIT
    assert {"modeling_own.py", "configuration_own.py"} <= downloaded(tmp_path)
    assert any(name.endswith("modeling_own") for name in sys.modules)


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_code_that_was_not_allowed_is_not_even_fetched(
    backend: str, hub: Hub, tmp_path: Path
) -> None:
    if backend == "vllm":
        pytest.importorskip("vllm")
    error = loaded(remote(hub, trusted=False), backend)
    assert isinstance(error, LoadError)
    assert error.reason is FailureReason.MODEL_UNSUPPORTED
    assert "--trusted-repositories" in error.message
    if backend == "transformers":
        assert f"acme/own@{COMMIT}" in error.message
    assert not any(name.endswith(".py") for name in downloaded(tmp_path))
    assert not any("modeling_own" in name for name in sys.modules)


def test_a_tokenizer_that_is_code_is_not_run_either(hub: Hub) -> None:
    shutil.rmtree(hub.folder)
    save(hub.folder)
    (hub.folder / "tokenizer.json").unlink()
    (hub.folder / "tokenization_own.py").write_text("raise SystemExit('it ran')")
    change(
        hub.folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]},
    )
    error = loaded(remote(hub, trusted=False))
    assert isinstance(error, LoadError)
    assert error.reason is FailureReason.MODEL_UNSUPPORTED
    assert "--trusted-repositories" in error.message


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_another_repository_was_never_allowed(file: str, hub: Hub) -> None:
    classes: dict[str, Any] = {**CLASSES, "AutoModelForCausalLM": f"evil/code--{CLASSES}"}
    if file == "tokenizer_config.json":
        classes = {"AutoTokenizer": [None, "evil/code--tokenization.Own"]}
    change(hub.folder / file, auto_map=classes)
    error = loaded(remote(hub, trusted=True))
    assert isinstance(error, LoadError)
    assert error.reason is FailureReason.MODEL_UNSUPPORTED
    assert "evil/code" in error.message
    assert not any("modeling_own" in name for name in sys.modules)


def test_a_reward_model_may_be_code_too(hub: Hub) -> None:
    scoring = ScoringConfig(type=ScoreType.PROCESS, family=Family.MATH_SHEPHERD)
    for trusted in (False, True):
        settings = remote(hub, trusted=trusted, scoring=scoring)
        with pytest.raises(LoadError) as caught:
            load_reward(settings, lambda *_: None, recipes.bind)
        # Allowed, it gets as far as the recipe, whose tokens this vocabulary has not.
        expected = "TokenNotInVocabulary" if trusted else "ModelUnsupported"
        assert caught.value.reason == expected, caught.value.message
        assert ("--trusted-repositories" in caught.value.message) != trusted
