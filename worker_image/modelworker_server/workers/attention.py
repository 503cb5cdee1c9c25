"""Attention for decode steps with grouped key-value heads.

transformers repeats keys and values for every query head as soon as there is a mask. In a
decode step the query heads of one group can stand side by side in the query dimension
instead: the same sums without copying the cache. (Measured on two cores with SmolLM2,
32 rows of 256 tokens: a step takes 0.6 of the time.)
"""

from typing import Any, Final

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME: Final = "modelworker_sdpa"


def grouped_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Drop-in for transformers' `sdpa_attention_forward`."""
    batch, heads, length, size = query.shape
    groups = heads // key.shape[1]
    shared_mask = attention_mask is None or attention_mask.shape[1] == 1
    if length > 1 or groups == 1 or not shared_mask or kwargs.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    output = torch.nn.functional.scaled_dot_product_attention(
        query.view(batch, key.shape[1], groups, size),
        key,
        value,
        attn_mask=attention_mask,
        scale=kwargs.get("scaling"),
    )
    return output.reshape(batch, 1, heads, value.shape[-1]), None


def use_grouped_sdpa(model: Any) -> None:
    """Switch a model that runs on transformers' SDPA attention; leave others as they are."""
    if model.config._attn_implementation != "sdpa":  # noqa: SLF001 - there is no public getter
        return
    AttentionInterface.register(_NAME, grouped_sdpa)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)
