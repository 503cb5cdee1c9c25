"""A checkpoint's configuration and tensors, read from its files as they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError

HEAD_FILE: Final = "reward_head.pt"
"""ReasonFlux's head beside the weights: the state of one linear layer."""
_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"
WRAPPED: Final = "pretrained_model."
"""What some trainers put before the names of the model that they wrap."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config.json and safetensors."""

    config: Mapping[str, Any]
    """config.json."""
    files: Mapping[str, Path] = field(repr=False)
    """Where each tensor is."""
    extra: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    """Tensors of `HEAD_FILE`."""

    @property
    def names(self) -> frozenset[str]:
        """Names of all tensors, those of `HEAD_FILE` beginning with `reward_head.`."""
        return frozenset((*self.files, *self.extra))

    @property
    def wrapped(self) -> bool:
        """Whether the model's names begin with `WRAPPED`."""
        return any(name.startswith(WRAPPED) for name in self.files)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor on the CPU, in its own dtype."""
        if name in self.extra:
            return self.extra[name]
        with safe_open(self.files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        if name in self.extra:
            return tuple(self.extra[name].shape)
        with safe_open(self.files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's configuration and the names of its tensors.

    Raises:
        LoadError: the configuration is no JSON object, or a file of the weights is missing.
    """
    config = _json(folder / "config.json")
    extra: dict[str, torch.Tensor] = {}
    if (head := folder / HEAD_FILE).is_file():
        state = torch.load(head, map_location="cpu", weights_only=True)
        extra = {f"reward_head.{name}": value for name, value in state.items()}
    return Checkpoint(config=config, files=_files(folder), extra=extra)


def no_head(what: str) -> LoadError:
    """The checkpoint has not what the recipe reads."""
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"the checkpoint has not {what}; check that spec.scoring.family is this model's",
    )


def misfit(what: str, found: str, wanted: str) -> LoadError:
    """A tensor that does not fit the others."""
    return LoadError(
        FailureReason.LOAD_FAILED,
        f"{what} of the checkpoint has {found} where {wanted} would fit; it is damaged, or of "
        "another model than its config.json says",
    )


def _files(folder: Path) -> dict[str, Path]:
    if (index := folder / _INDEX).is_file():
        files = {name: folder / file for name, file in _json(index)["weight_map"].items()}
        for path in sorted(set(files.values())):
            if not path.is_file():
                raise LoadError(
                    FailureReason.LOAD_FAILED,
                    f"{_INDEX} names {path.name}, which is not there; fetch the rest of the model",
                )
        return files
    single = folder / _SINGLE
    paths = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    files = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            files.update(dict.fromkeys(file.keys(), path))
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise LoadError(
            FailureReason.LOAD_FAILED, f"{path.name} is no JSON ({error}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise LoadError(FailureReason.LOAD_FAILED, f"{path.name} is no JSON object; fetch it again")
    return content
