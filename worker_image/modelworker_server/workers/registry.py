"""Which class serves which backend; nothing heavy is imported before it is asked for."""

from collections.abc import Callable
from typing import Final

from modelworker_api import wire
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import BaseModelWorker, ModelConfig


def _transformers(config: ModelConfig) -> BaseModelWorker:
    if config.scoring is not None:
        from modelworker_server.scoring import recipes  # noqa: PLC0415
        from modelworker_server.workers.reward.worker import RewardModelWorker  # noqa: PLC0415

        return RewardModelWorker(config, recipes.bind)
    from modelworker_server.workers.model import ModelWorker  # noqa: PLC0415 - imports torch

    return ModelWorker(config)


def _vllm(config: ModelConfig) -> BaseModelWorker:
    try:
        import vllm  # noqa: F401, PLC0415 - seconds
    except ImportError as error:
        raise LoadError(
            wire.FailureReason.LOAD_FAILED,
            f"backend vllm needs the package vllm, which cannot be imported ({error}); install "
            "modelworker[vllm], or use backend transformers",
        ) from error
    if config.scoring is not None:
        from modelworker_server.scoring import recipes  # noqa: PLC0415
        from modelworker_server.workers.vllm.reward import VLLMRewardWorker  # noqa: PLC0415

        return VLLMRewardWorker(config, recipes.bind)
    from modelworker_server.workers.vllm.worker import VLLMWorker  # noqa: PLC0415

    return VLLMWorker(config)


BACKENDS: Final[dict[str, Callable[[ModelConfig], BaseModelWorker]]] = {
    "transformers": _transformers,
    "vllm": _vllm,
}


def create(backend: str, config: ModelConfig) -> BaseModelWorker:
    """The worker of a backend, not loaded yet.

    Raises:
        ValueError: for a backend that is not in `BACKENDS`.
    """
    try:
        factory = BACKENDS[backend]
    except KeyError:
        raise ValueError(f"no backend {backend!r}; there are: {', '.join(BACKENDS)}") from None
    return factory(config)
