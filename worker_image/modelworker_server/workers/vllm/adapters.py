"""LoRA adapters of a running engine: loaded, replaced and unloaded while it works."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest

from modelworker_api import kube
from modelworker_api.adapters import Adapter, AdapterReport, AdapterState
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.files import check_adapter
from modelworker_server.workers.hub import fetch
from modelworker_server.workers.vllm.failures import sentence

_MESSAGE: Final = 512
"""Characters of a report's message."""


class Adapters:
    """The adapters of one engine.

    Args:
        models: vLLM's list of what it serves.
        engine: The engine itself.
        config: The model's own configuration: its hub, token and folder.
    """

    def __init__(self, models: Any, engine: Any, config: ModelConfig) -> None:
        self._models = models
        self._engine = engine
        self._config = config
        self._reports: dict[str, AdapterReport] = {}

    @property
    def reports(self) -> tuple[AdapterReport, ...]:
        """Every adapter that was asked for, in that order, and how far it is."""
        return tuple(self._reports.values())

    async def want(self, wanted: Sequence[Adapter]) -> None:
        """Serve these adapters and no others; one that failed is tried again."""
        before = self._reports
        self._reports = {
            one.name: _unchanged(before.get(one.name), one)
            or _report(one, AdapterState.LOADING, "")
            for one in wanted
        }
        for name in sorted(set(before) - set(self._reports)):
            await self._unload(name)
        for one in wanted:
            if self._reports[one.name].state is not AdapterState.LOADED:
                self._reports[one.name] = await self._load(one)

    async def _load(self, adapter: Adapter) -> AdapterReport:
        try:
            folder = await asyncio.to_thread(find_adapter, adapter, self._config)
        except LoadError as error:
            return _report(adapter, AdapterState.FAILED, error.message)
        request = LoadLoRAAdapterRequest(
            lora_name=adapter.name,
            lora_path=str(folder),
            load_inplace=adapter.name in self._models.lora_requests,
        )
        answer = await self._models.load_lora_adapter(request)
        if isinstance(answer, ErrorResponse):
            message = f"the engine does not take it: {answer.error.message}"
            return _report(adapter, AdapterState.FAILED, message)
        return _report(adapter, AdapterState.LOADED, "")

    async def _unload(self, name: str) -> None:
        served = self._models.lora_requests.get(name)
        if served is not None:
            await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
            await self._engine.remove_lora(served.lora_int_id)


def find_adapter(adapter: Adapter, config: ModelConfig) -> Path:
    """The folder of an adapter, downloaded if need be.

    Raises:
        LoadError: it is not there, is no adapter, or lies outside the model's volume.
    """
    if adapter.source == "huggingFace":
        source = replace(
            config,
            model=adapter.location,
            revision=adapter.revision,
            trust_remote_code=False,  # an adapter is weights
        )
        try:
            return fetch(source, lambda _percent: None, check=check_adapter)[0]
        except LoadError:
            raise
        except Exception as error:
            raise LoadError(FailureReason.DOWNLOAD_FAILED, sentence(error)) from error
    root = _volume(config)
    folder = _placed(PurePosixPath(adapter.location), config)
    try:
        real = folder.resolve(strict=True)
        names = {path.name for path in real.iterdir()}
    except OSError as error:
        raise LoadError(
            FailureReason.MODEL_NOT_FOUND,
            f"no folder {adapter.location} ({error.strerror}); check the adapter's path",
        ) from error
    if not real.is_relative_to(root):
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"{adapter.location} leads out of the model's volume; put the adapter into it",
        )
    check_adapter(names, adapter.location)
    return real


def _volume(config: ModelConfig) -> Path:
    """The folder that local adapters must be in."""
    if config.adapter_dir is not None:
        return Path(config.adapter_dir).resolve()
    if config.source == "local":
        return Path(config.model).resolve().parent
    raise LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        "a model of the hub has no volume with adapters; name the adapter's repository, or set "
        "--adapter-dir",
    )


def _placed(location: PurePosixPath, config: ModelConfig) -> Path:
    """Where a folder of the pod's model volume is on this machine."""
    if config.adapter_dir is not None and location.is_relative_to(kube.MODEL_DIR):
        return Path(config.adapter_dir, location.relative_to(kube.MODEL_DIR))
    return Path(location)


def _unchanged(report: AdapterReport | None, adapter: Adapter) -> AdapterReport | None:
    """The report, if it is of that adapter in that place."""
    if report is None:
        return None
    same = (report.location, report.revision) == (adapter.location, adapter.revision)
    return report if same else None


def _report(adapter: Adapter, state: AdapterState, message: str) -> AdapterReport:
    return AdapterReport(
        name=adapter.name,
        state=state,
        location=adapter.location,
        revision=adapter.revision,
        message=message[:_MESSAGE],
    )
