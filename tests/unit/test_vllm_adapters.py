"""Adapters of an engine: where they are found, and what is loaded, replaced and unloaded."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from vllm.entrypoints.serve import create_error_response

from modelworker_api.adapters import Adapter, AdapterState
from modelworker_api.wire import FailureReason
from modelworker_server.adapting import Adapting
from modelworker_server.errors import LoadError, NotReady, Unsupported
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.registry import create
from modelworker_server.workers.vllm.adapters import Adapters, find_adapter
from tests.fake_worker import FakeWorker
from tests.server_support import state_for


def write_adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume/base").mkdir(parents=True)
    write_adapter(tmp_path / "volume/adapters/math")
    write_adapter(tmp_path / "secret")
    (tmp_path / "volume/adapters/link").symlink_to(tmp_path / "secret")
    (tmp_path / "volume/adapters/inside").symlink_to(tmp_path / "volume/adapters/math")
    (tmp_path / "volume/empty").mkdir()
    (tmp_path / "volume/pickled").mkdir()
    (tmp_path / "volume/pickled/adapter_config.json").write_text("{}")
    (tmp_path / "volume/pickled/adapter_model.bin").write_bytes(b"")
    return tmp_path / "volume"


def base(volume: Path, **changes: Any) -> ModelConfig:
    config = ModelConfig(source="local", model=str(volume / "base"), name="p", created=1)
    return replace(config, **changes)


def local(location: object, name: str = "math") -> Adapter:
    return Adapter(name=name, source="local", location=str(location))


@pytest.mark.parametrize("path", ["adapters/math", "adapters/inside", "base/../adapters/math"])
def test_a_folder_of_the_volume_is_found(path: str, volume: Path) -> None:
    assert find_adapter(local(volume / path), base(volume)) == volume / "adapters/math"


def test_a_folder_of_the_pod_is_found_where_the_volume_is(volume: Path) -> None:
    config = base(volume, adapter_dir=str(volume))
    assert find_adapter(local("/models/adapters/math"), config) == volume / "adapters/math"


@pytest.mark.parametrize(
    ("path", "changes", "reason", "words"),
    [
        pytest.param("no", {}, FailureReason.MODEL_NOT_FOUND, "no folder", id="missing"),
        pytest.param("empty", {}, FailureReason.MODEL_NOT_FOUND, "adapter_config", id="empty"),
        pytest.param("pickled", {}, FailureReason.MODEL_UNSUPPORTED, "pickle", id="pickled"),
        pytest.param(
            "adapters/link", {}, FailureReason.MODEL_UNSUPPORTED, "leads out", id="link-out"
        ),
        pytest.param("../secret", {}, FailureReason.MODEL_UNSUPPORTED, "leads out", id="dots"),
        pytest.param(
            "adapters/math",
            {"source": "huggingFace"},
            FailureReason.MODEL_UNSUPPORTED,
            "no volume",
            id="no-volume",
        ),
    ],
)
def test_what_is_no_adapter_of_the_volume_is_refused(
    path: str, changes: dict[str, Any], reason: FailureReason, words: str, volume: Path
) -> None:
    with pytest.raises(LoadError, match=words) as caught:
        find_adapter(local(volume / path), base(volume, **changes))
    assert caught.value.reason is reason


@dataclass
class Models:
    """vLLM's list of models, without an engine."""

    lora_requests: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    async def load_lora_adapter(self, request: Any) -> Any:
        self.calls.append(("load", request.lora_name, str(request.load_inplace)))
        if request.lora_name in self.refused:
            return create_error_response("LoRA rank 64 is greater than max_lora_rank 8")
        self.lora_requests.setdefault(request.lora_name, Served(len(self.lora_requests) + 1))
        return "Success"

    async def unload_lora_adapter(self, request: Any) -> Any:
        self.calls.append(("unload", request.lora_name))
        del self.lora_requests[request.lora_name]
        return "Success"

    async def remove_lora(self, lora_id: int) -> None:
        self.calls.append(("remove", str(lora_id)))


@dataclass
class Served:
    """One of its adapters."""

    lora_int_id: int


def states(adapters: Adapters) -> dict[str, str]:
    return {report.name: report.state.value for report in adapters.reports}


def test_what_is_wanted_is_served_and_nothing_else(volume: Path) -> None:
    other = write_adapter(volume / "adapters/code")
    models = Models()
    adapters = Adapters(models, models, base(volume))
    math, code = local(volume / "adapters/math"), local(other, "code")

    async def run() -> None:
        await adapters.want([math, code])
        assert states(adapters) == {"math": "Loaded", "code": "Loaded"}
        assert models.calls == [("load", "math", "False"), ("load", "code", "False")]
        models.calls.clear()
        await adapters.want([code, math])
        assert (models.calls, list(states(adapters))) == ([], ["code", "math"])
        await adapters.want([code])
        assert models.calls == [("unload", "math"), ("remove", "1")]
        models.calls.clear()
        await adapters.want([local(volume / "adapters/math", "code")])
        assert models.calls == [("load", "code", "True")]
        assert adapters.reports[0].location == str(volume / "adapters/math")
        await adapters.want([])
        assert (states(adapters), models.lora_requests) == ({}, {})

    asyncio.run(run())


def test_failures_are_told_for_each_adapter_and_tried_again(volume: Path) -> None:
    models = Models(refused={"math"})
    adapters = Adapters(models, models, base(volume))
    wanted = [local(volume / "adapters/math"), local(volume / "no", "no"), local(
        volume / "adapters/math", "good"
    )]  # fmt: skip

    async def run() -> None:
        await adapters.want(wanted)
        assert states(adapters) == {"math": "Failed", "no": "Failed", "good": "Loaded"}
        math, no, good = adapters.reports
        assert "max_lora_rank" in math.message
        assert "no folder" in no.message
        assert good.message == ""
        before = adapters.reports
        await adapters.want(wanted)
        assert adapters.reports == before
        models.refused.clear()
        await adapters.want(wanted)
        assert states(adapters)["math"] == "Loaded"

    asyncio.run(run())


def test_a_change_is_told_at_once_and_a_repetition_is_not(volume: Path) -> None:
    models = Models()

    class Worker(FakeWorker):
        made = Adapters(models, models, base(volume))

        async def want_adapters(self, wanted: Any) -> None:
            if any(one.name == "bad" for one in wanted):
                raise Unsupported("none here")
            await self.made.want(wanted)

        @property
        def adapters(self) -> Any:
            return self.made.reports

    async def run() -> None:
        state = state_for(Worker())
        await state.lifecycle.changed()  # ready
        adapting = Adapting(state)
        task = asyncio.create_task(adapting.run())
        adapting.want([local(volume / "adapters/math")])
        await asyncio.wait_for(state.lifecycle.changed(), 5)
        assert state.heartbeat().adapters[0].state is AdapterState.LOADED
        adapting.want([local(volume / "adapters/math"), local("/x", "bad")])
        adapting.want([local(volume / "adapters/math")])
        told = asyncio.create_task(state.lifecycle.changed())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not told.done()
        assert not task.done()
        told.cancel()
        task.cancel()

    asyncio.run(run())


def test_a_worker_that_is_not_loaded_takes_none(volume: Path) -> None:
    worker = create("vllm", base(volume))
    assert worker.adapters == ()
    with pytest.raises(NotReady):
        asyncio.run(worker.want_adapters([local(volume / "adapters/math")]))
