"""Adapters that come from a model hub."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

pytest.importorskip("vllm")

from modelworker_api.adapters import Adapter
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.vllm.adapters import Adapters, find_adapter
from tests.fake_hub import COMMIT, Hub, serving


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "training_args.bin").write_bytes(b"unused")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(Hub("acme/math", folder)) as hub:
        yield hub


def base(hub: Hub, **changes: Any) -> ModelConfig:
    return ModelConfig(
        source="huggingFace", model="acme/base", name="p", created=1, endpoint=hub.url, **changes
    )


def adapter(repository: str = "acme/math", revision: str | None = "main") -> Adapter:
    return Adapter(name="math", source="huggingFace", location=repository, revision=revision)


def test_an_adapter_is_downloaded_at_its_revision(hub: Hub) -> None:
    hub.token = "hf_secret"
    folder = find_adapter(adapter(), base(hub, token="hf_secret"))
    assert folder.name == COMMIT
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize(
    ("wanted", "removed", "reason"),
    [
        pytest.param(adapter("acme/no"), None, FailureReason.MODEL_NOT_FOUND, id="no-repository"),
        pytest.param(adapter(revision="v9"), None, FailureReason.MODEL_NOT_FOUND, id="no-revision"),
        pytest.param(
            adapter(), "adapter_config.json", FailureReason.MODEL_NOT_FOUND, id="no-adapter"
        ),
        pytest.param(
            adapter(), "adapter_model.safetensors", FailureReason.MODEL_UNSUPPORTED, id="pickled"
        ),
    ],
)
def test_what_the_hub_does_not_have_is_told(
    hub: Hub, wanted: Adapter, removed: str | None, reason: FailureReason
) -> None:
    if removed:
        (hub.folder / removed).unlink()
    with pytest.raises(LoadError) as caught:
        find_adapter(wanted, base(hub))
    assert caught.value.reason is reason
    adapters = Adapters(None, None, base(hub))
    asyncio.run(adapters.want([wanted]))
    assert adapters.reports[0].message == caught.value.message
