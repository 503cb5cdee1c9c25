"""A small model whose classes are code of its repository."""

import json
from pathlib import Path
from typing import Any

from tests.engine_support import save

_CONFIGURATION = """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own"
"""
_MODELING = """
from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
CLASSES = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
}


def save_own(folder: Path, classes: dict[str, str] | None = None) -> Path:
    """Write such a checkpoint; `classes` is its `auto_map`."""
    save(folder, head_dim=32)  # vLLM knows no smaller heads on a CPU
    (folder / "configuration_own.py").write_text(_CONFIGURATION)
    (folder / "modeling_own.py").write_text(_MODELING)
    change(
        folder / "config.json", model_type="own", auto_map=CLASSES if classes is None else classes
    )
    return folder


def change(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
