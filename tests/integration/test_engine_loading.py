"""Loading: from a folder and from a hub, and every way in which it can fail."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import LoadError, NotReady
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.hub import fetch
from modelworker_server.workers.loading import load_failure
from modelworker_server.workers.registry import create
from tests.engine_support import config, save
from tests.fake_hub import COMMIT, Hub, serving


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


def outcome(settings: ModelConfig) -> tuple[list[tuple[LoadState, int | None]], Any]:
    """What was reported, and the worker's info or error."""

    async def run() -> tuple[list[tuple[LoadState, int | None]], Any]:
        seen: list[tuple[LoadState, int | None]] = []
        worker = create("transformers", settings)
        with pytest.raises(NotReady):
            _ = worker.info
        try:
            await worker.load(lambda state, percent: seen.append((state, percent)))
        except LoadError as error:
            return seen, error
        finally:
            await worker.close()
        return seen, worker.info

    return asyncio.run(run())


def test_a_folder(tiny: Path) -> None:
    seen, info = outcome(config(tiny, aliases=frozenset({"other"}), max_model_len=100))
    assert seen == [(LoadState.LOADING, None), (LoadState.WARMING, None)]
    assert (info.name, info.aliases, info.root) == ("tiny", {"other"}, str(tiny))
    assert (info.dtype, info.max_model_len, info.created) == ("float32", 100, 7)
    assert info.revision.startswith("sha256:")
    assert info.vocab_size == 264


def rewrite(change: dict[str, Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return apply


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lacking(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_gguf(folder: Path) -> None:
    (folder / "m.gguf").write_bytes(b"GGUF\x03\0\0\0 and no more")


REMOTE_CODE = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}


@pytest.mark.parametrize(
    ("damage", "changes", "expected"),
    [
        pytest.param(shutil.rmtree, {}, ("ModelNotFound", "no folder"), id="no-folder"),
        pytest.param(pickled, {}, ("ModelUnsupported", "pickle"), id="pickle"),
        pytest.param(
            rewrite({"model_type": "nothing"}),
            {},
            ("ModelUnsupported", "nothing"),
            id="unknown-type",
        ),
        pytest.param(
            rewrite(REMOTE_CODE), {}, ("ModelUnsupported", "--trusted-repositories"), id="code"
        ),
        pytest.param(
            rewrite({"model_type": "t5"}), {}, ("ModelUnsupported", "encoder-decoder"), id="t5"
        ),
        pytest.param(
            rewrite({"model_type": "mamba"}), {}, ("ModelUnsupported", "recurrent"), id="mamba"
        ),
        pytest.param(
            rewrite({"model_type": "qwen3_next"}),
            {},
            ("ModelUnsupported", "recurrent"),
            id="hybrid",
        ),
        pytest.param(
            rewrite({"model_type": "vit"}), {}, ("ModelUnsupported", "causal"), id="image-model"
        ),
        pytest.param(None, {"max_model_len": 513}, ("ModelTooLong", "512"), id="too-long"),
        pytest.param(truncated, {}, ("LoadFailed", "complete"), id="truncated"),
        pytest.param(lacking, {}, ("LoadFailed", "layers.1.mlp.up_proj"), id="lacks-a-weight"),
        pytest.param(no_json, {}, ("LoadFailed", "JSON"), id="bad-json"),
        pytest.param(no_gguf, {"gguf_file": "m.gguf"}, ("LoadFailed", "complete"), id="bad-gguf"),
        pytest.param(None, {"gguf_file": "x.gguf"}, ("ModelNotFound", "x.gguf"), id="no-gguf"),
    ],
)
def test_folders_that_cannot_be_loaded(
    tiny: Path,
    tmp_path: Path,
    damage: Callable[[Path], None] | None,
    changes: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    if damage is not None:
        damage(folder)
    _, error = outcome(config(folder, **changes))
    assert isinstance(error, LoadError), error
    assert error.reason == expected[0], error.message
    assert expected[1] in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(MemoryError(), "InsufficientMemory", id="python"),
        pytest.param(torch.OutOfMemoryError("CUDA"), "InsufficientMemory", id="cuda"),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "InsufficientMemory",
            id="cpu",
        ),
        pytest.param(OSError("odd\nmore"), "LoadFailed", id="other"),
    ],
)
def test_other_errors(error: Exception, reason: str) -> None:
    failure = load_failure(error)
    assert failure.reason == reason
    assert type(error).__name__ in failure.message
    assert "more\n" not in failure.message


# --- the hub -------------------------------------------------------------------------


@pytest.fixture
def hub(tiny: Path) -> Iterator[Hub]:
    with serving(Hub("acme/tiny", tiny)) as hub:
        yield hub


def remote(hub: Hub, **changes: Any) -> ModelConfig:
    plain_settings: dict[str, Any] = {"revision": "main", "endpoint": hub.url, **changes}
    return config(Path("acme/tiny"), source="huggingFace", **plain_settings)


def test_from_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # HF_HOME is read once when the library is imported, so a test cannot set it any more.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    seen, info = outcome(remote(hub))
    assert (info.revision, info.root) == (COMMIT, "acme/tiny")
    states = [state for state, _ in seen]
    assert list(dict.fromkeys(states)) == ["Downloading", "Loading", "Warming"]
    percents = [percent for state, percent in seen if state == LoadState.DOWNLOADING]
    assert percents == sorted(percents, key=lambda percent: percent or 0)
    assert (percents[0], percents[-1]) == (0, 100)
    assert len(percents) > 2
    assert hub.tokens == {None}


def test_only_what_is_needed_is_downloaded(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    hub.folder = tmp_path / "more"
    shutil.copytree(tiny, hub.folder)
    for name in ("pytorch_model.bin", "consolidated.safetensors", "model.onnx", "small.gguf"):
        (hub.folder / name).write_bytes(b"unused")
    folder, commit = fetch(remote(hub), lambda _: None, cache_dir=tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in tiny.iterdir()
    )
    assert commit == COMMIT
    (only,) = fetch(
        remote(hub, gguf_file="small.gguf"), lambda _: None, cache_dir=tmp_path / "gguf"
    )[0].iterdir()
    assert only.name == "small.gguf"


@pytest.mark.parametrize(
    ("changes", "served", "expected"),
    [
        pytest.param({"model": "acme/none"}, {}, ("ModelNotFound", "acme/none"), id="no-repo"),
        pytest.param({"revision": "v9"}, {}, ("ModelNotFound", "'v9'"), id="no-revision"),
        pytest.param({"model": "a/b/c"}, {}, ("ModelNotFound", "OWNER/NAME"), id="no-name"),
        pytest.param({"gguf_file": "x.gguf"}, {}, ("ModelNotFound", "x.gguf"), id="no-file"),
        pytest.param({}, {"token": "t"}, ("ModelUnauthorized", "tokenSecretRef"), id="no-token"),
        pytest.param(
            {"token": "wrong"}, {"token": "t"}, ("ModelUnauthorized", "no access"), id="wrong-token"
        ),
        pytest.param({}, {"token": "t", "gated": True}, ("ModelUnauthorized", "gated"), id="gated"),
    ],
)
def test_the_hub_refuses(
    hub: Hub,
    tmp_path: Path,
    changes: dict[str, Any],
    served: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    for name, value in served.items():
        setattr(hub, name, value)
    settings = remote(hub, **{key: value for key, value in changes.items() if key != "model"})
    if "model" in changes:
        settings = config(
            Path(changes["model"]), source="huggingFace", revision="main", endpoint=hub.url
        )
    with pytest.raises(LoadError) as caught:
        fetch(settings, lambda _: None, cache_dir=tmp_path)
    assert caught.value.reason == expected[0], caught.value.message
    assert expected[1] in caught.value.message


def test_a_token_opens_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    hub.token = "t"
    _, commit = fetch(remote(hub, token="t"), lambda _: None, cache_dir=tmp_path)
    assert commit == COMMIT
    assert hub.tokens == {"t"}


def test_when_the_hub_fails_only_a_complete_copy_helps(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetch(remote(hub), lambda _: None, cache_dir=tmp_path / "full")
    hub.broken = frozenset({"model.safetensors"})
    gone = remote(hub, endpoint="http://127.0.0.1:9")

    def failure(settings: ModelConfig) -> LoadError:
        with pytest.raises(LoadError) as caught:
            fetch(settings, lambda _: None, cache_dir=tmp_path / str(settings.endpoint)[-4:])
        return caught.value

    # The hub's client tries again for about 20 s, so the three wait together.
    with ThreadPoolExecutor() as pool:
        broken, nowhere = pool.submit(failure, remote(hub)), pool.submit(failure, gone)
        cached = pool.submit(fetch, gone, lambda _: None, cache_dir=tmp_path / "full")
        assert cached.result() == (folder, COMMIT)
        for error in (broken.result(), nowhere.result()):
            assert error.reason == FailureReason.DOWNLOAD_FAILED
    assert "500" in broken.result().message
    assert "127.0.0.1:9" in nowhere.result().message


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    with pytest.raises(LoadError) as caught:
        fetch(remote(hub), lambda _: None, cache_dir=not_a_folder)
    assert caught.value.reason == FailureReason.DOWNLOAD_FAILED


def test_a_warm_request_that_fails(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _, error = outcome(config(folder))
    assert error.reason == FailureReason.LOAD_FAILED
    assert "not a number" in error.message
