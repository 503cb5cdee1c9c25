"""Which files make a model, how two versions are told apart, and what importing costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.files import check_files, fingerprint, locate
from modelworker_server.workers.registry import create


@pytest.mark.parametrize(
    ("names", "gguf_file"),
    [
        pytest.param(["config.json", "model.safetensors"], None, id="safetensors"),
        pytest.param(["config.json", "a.safetensors", "pytorch_model.bin"], None, id="both"),
        pytest.param(["m.Q4.gguf", "m.Q8.gguf"], "m.Q8.gguf", id="gguf"),
    ],
)
def test_complete_models(names: list[str], gguf_file: str | None) -> None:
    check_files(names, gguf_file, "here")


@pytest.mark.parametrize(
    ("names", "gguf_file", "reason", "words"),
    [
        pytest.param([], None, "ModelNotFound", ["config.json", "nothing"], id="empty"),
        pytest.param(["a.txt"], None, "ModelNotFound", ["here", "a.txt"], id="no-config"),
        pytest.param(["m.gguf"], None, "ModelNotFound", ["ggufFile", "m.gguf"], id="gguf-unnamed"),
        pytest.param(
            ["config.json", "m.gguf"], "x.gguf", "ModelNotFound", ["x.gguf", "m.gguf"], id="other"
        ),
        pytest.param(
            ["config.json", "pytorch_model.bin"],
            None,
            "ModelUnsupported",
            ["pickle", "safetensors"],
            id="pickle",
        ),
        pytest.param(
            ["config.json", "sub/model.safetensors"],
            None,
            "ModelNotFound",
            ["*.safetensors", "config.json"],
            id="weights-in-a-folder",
        ),
        pytest.param(
            [f"f{i:02}" for i in range(40)], None, "ModelNotFound", ["f11 and 28 more"], id="many"
        ),
    ],
)
def test_incomplete_models(
    names: list[str], gguf_file: str | None, reason: str, words: list[str]
) -> None:
    with pytest.raises(LoadError) as caught:
        check_files(names, gguf_file, "here")
    assert caught.value.reason == reason
    assert [word for word in words if word not in caught.value.message] == []


def test_a_missing_folder_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "smollm2").mkdir()
    with pytest.raises(LoadError) as caught:
        locate(str(tmp_path / "smollm3" / "v1"), None)
    assert caught.value.reason == FailureReason.MODEL_NOT_FOUND
    assert caught.value.message.endswith(f"{tmp_path} holds: smollm2")


def model(folder: Path, *, config: str = "{}", weights: bytes = b"w" * (3 << 20)) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_fingerprints(tmp_path: Path) -> None:
    base = fingerprint(model(tmp_path / "a"), None)
    assert base.startswith("sha256:")
    assert len(base) == len("sha256:") + 12
    assert fingerprint(model(tmp_path / "b"), None) == base
    assert fingerprint(model(tmp_path / "c", config='{"a": 1}'), None) != base
    weights = bytearray(b"w" * (3 << 20))
    weights[-1] = 0
    assert fingerprint(model(tmp_path / "d", weights=bytes(weights)), None) != base
    assert fingerprint(model(tmp_path / "e", weights=b"w" * (3 << 20) + b"w"), None) != base


def test_a_gguf_fingerprint_is_of_that_file(tmp_path: Path) -> None:
    for name, text in (("a.gguf", b"1"), ("b.gguf", b"2")):
        (tmp_path / name).write_bytes(text)
    assert fingerprint(tmp_path, "a.gguf") != fingerprint(tmp_path, "b.gguf")


def test_the_contract_imports_no_torch() -> None:
    code = (
        "import sys; import modelworker_server.workers.base, modelworker_server.workers.registry;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_backend_says_which_there_are() -> None:
    config = ModelConfig(source="local", model="m", name="m", created=0)
    with pytest.raises(ValueError, match="'abacus'; there are: transformers"):
        create("abacus", config)


def test_the_token_is_not_printed() -> None:
    config = ModelConfig(source="huggingFace", model="m", name="m", created=0, token="secret")
    assert "secret" not in repr(config)
