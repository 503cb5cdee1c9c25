"""InternLM2 as a Llama: the same transformer, with other names and one matrix for q, k and v.

Names and layout are those of InternLM2's published modeling code: `wqkv` holds for each
key-value head its query heads, then its key and its value.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from transformers import LlamaConfig

from modelworker_server.workers.reward.checkpoint import Checkpoint, misfit

MODEL_TYPE: Final = "internlm2"

_SAME: Final = (
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "torch_dtype",
    "vocab_size",
)
_NAMES: Final = {
    "tok_embeddings.": "embed_tokens.",
    "attention.wo.": "self_attn.o_proj.",
    "attention_norm.": "input_layernorm.",
    "ffn_norm.": "post_attention_layernorm.",
    "feed_forward.w1.": "mlp.gate_proj.",
    "feed_forward.w2.": "mlp.down_proj.",
    "feed_forward.w3.": "mlp.up_proj.",
}
_FUSED: Final = re.compile(r"(layers\.\d+)\.attention\.wqkv\.(weight|bias)")


def llama_config(config: Mapping[str, Any]) -> LlamaConfig:
    """Llama's configuration of an InternLM2 config.json."""
    same = {name: config[name] for name in _SAME if config.get(name) is not None}
    return LlamaConfig(**same, attention_bias=bool(config.get("bias", False)))


def llama_tensors(checkpoint: Checkpoint, config: LlamaConfig) -> dict[str, torch.Tensor]:
    """The transformer's tensors by the names of `LlamaModel`; the head's are left out.

    Raises:
        LoadError: a fused matrix has not the rows that the configuration says.
    """
    tensors: dict[str, torch.Tensor] = {}
    for full in checkpoint.files:
        if not full.startswith("model."):
            continue
        name, tensor = full.removeprefix("model."), checkpoint.tensor(full)
        if fused := _FUSED.fullmatch(name):
            layer, kind = fused.groups()
            for part, values in zip("qkv", _split(full, tensor, config), strict=True):
                tensors[f"{layer}.self_attn.{part}_proj.{kind}"] = values
            continue
        for old, new in _NAMES.items():
            name = name.replace(old, new)
        tensors[name] = tensor
    return tensors


def _split(
    name: str, fused: torch.Tensor, config: LlamaConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v of one fused weight or bias."""
    heads = config.num_attention_heads
    key_heads = config.num_key_value_heads or heads
    size, group = config.hidden_size // heads, heads // key_heads
    rows = key_heads * (group + 2) * size
    if len(fused) != rows:
        raise misfit(name, f"{len(fused)} rows", f"{rows}")
    parts = fused.view(key_heads, group + 2, size, *fused.shape[1:])
    q, k, v = parts[:, :group], parts[:, group], parts[:, group + 1]
    return q.flatten(0, 2).clone(), k.flatten(0, 1).clone(), v.flatten(0, 1).clone()
