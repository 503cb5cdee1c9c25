"""LoRA adapters between operator and worker: what is to be served, and how far it is."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Shape(BaseModel):
    """Unknown fields are ignored, as everywhere on the wire."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Adapter(_Shape):
    """A LoRA adapter that a worker is to serve under `name`."""

    name: Annotated[str, Field(max_length=128)]
    source: Literal["huggingFace", "local"]
    location: Annotated[str, Field(max_length=512)]
    """Repository of the hub, or a folder below `kube.MODEL_DIR`, which may have another place
    in the worker: its setting `adapter_dir`."""
    revision: Annotated[str, Field(max_length=128)] | None = None


class AdapterState(StrEnum):
    """How far an adapter is on one worker."""

    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "Failed"


class AdapterReport(_Shape):
    """What a worker says of an adapter; `location` and `revision` are those it was asked for."""

    name: Annotated[str, Field(max_length=128)]
    state: AdapterState
    location: Annotated[str, Field(max_length=512)] = ""
    revision: Annotated[str, Field(max_length=128)] | None = None
    message: Annotated[str, Field(max_length=512)] = ""
