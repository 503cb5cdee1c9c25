"""Tiny random reward models in memory, and as checkpoints laid out like the published ones."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from tests.golden_tokenizers import Files

HIDDEN = 32

_BASE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    # Large enough that every token changes what comes after it.
    "initializer_range": 0.3,
}

_CALM = {"initializer_range": 0.1}
_CALM_GAIN = 1 / 32

Heads = dict[str, nn.Module]
Named = dict[str, Tensor]
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Tiny:
    """A model without its head, its heads by the names of their tensors, and its config."""

    base: Any
    heads: Heads
    config: dict[str, Any]

    def to(self, dtype: torch.dtype) -> "Tiny":
        """The same weights in a dtype, the heads still in float32: they cost nothing there."""
        return replace(self, base=copy.deepcopy(self.base).to(dtype))

    def hidden(self, batch: Sequence[Sequence[int]], side: Side = "right") -> list[Tensor]:
        """The states after the last norm of each input, in float32, shape (tokens, hidden).

        `side` is where the shorter ones are padded.
        """
        longest = max(map(len, batch))
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        starts = [longest - len(row) if side == "left" else 0 for row in batch]
        for i, (row, start) in enumerate(zip(batch, starts, strict=True)):
            ids[i, start : start + len(row)] = torch.tensor(row)
            mask[i, start : start + len(row)] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            found = self.base(input_ids=ids, attention_mask=mask, position_ids=positions)
        return [
            states[start : start + len(row)].float()
            for states, start, row in zip(found.last_hidden_state, starts, batch, strict=True)
        ]


# --- heads ---------------------------------------------------------------------------


def spread(head: nn.Module, scale: float = 0.3) -> nn.Module:
    """Weights that give scores far enough apart to tell a wrong position from a right one."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=scale)
    return head


def language_model(vocabulary: int) -> Heads:
    """The head of a causal language model."""
    head = spread(nn.Linear(HIDDEN, vocabulary, bias=False))
    with torch.no_grad():
        # Else the mean over the vocabulary is near zero for every token.
        head.weight += 0.2 * torch.randn(HIDDEN)  # type: ignore[operator]
    return {"lm_head": head}


def tied(base: Any) -> Heads:
    """No head of its own: the embeddings."""
    head = nn.Linear(HIDDEN, base.config.vocab_size, bias=False)
    head.weight = base.get_input_embeddings().weight
    return {"lm_head": head}


def linear(name: str, labels: int, *, bias: bool) -> Callable[[int], Heads]:
    """One linear layer."""
    return lambda _: {name: spread(nn.Linear(HIDDEN, labels, bias=bias))}


def two_layers(name: str, labels: int) -> Callable[[int], Heads]:
    """Linear, ReLU, linear, as Qwen2.5-Math's reward models have it."""
    return lambda _: {
        name: spread(nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, labels)))
    }


class Gating(nn.Module):
    """The weights of ArmoRM's gate: linear layers with ReLU between."""

    def __init__(self, objectives: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [HIDDEN, *[hidden] * layers, objectives]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))

    def forward(self, states: Tensor, temperature: float) -> Tensor:
        """Weights of the objectives from the states at the gate's token."""
        *inner, last = self.layers
        for layer in inner:
            states = layer(states).relu()
        weights: Tensor = last(states) / temperature
        return weights.softmax(-1) * self.logit_scale


class Matrix(nn.Module):
    """A bare square matrix near the identity, whose tensor has the module's own name."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size) + 0.3 * torch.randn(size, size))

    def forward(self, states: Tensor) -> Tensor:
        """Multiply from the right."""
        return states @ self.weight


# --- checkpoints ---------------------------------------------------------------------


def tiny(
    model_type: str,
    vocabulary: int,
    heads: Callable[[int], Heads],
    *,
    seed: int = 0,
    calm: bool = False,
    shape: Mapping[str, Any] = MappingProxyType({}),
    **config: Any,
) -> Tiny:
    """A model of an architecture with random weights in float32.

    With `calm` they are smaller, and the scores nearer to each other: bfloat16's rounding,
    which large random weights amplify to 0.1 and more, then stays far below 0.001.
    `shape` has sizes of the model in place of the usual ones, such as `head_dim`.
    """
    torch.manual_seed(seed)
    options = {**_BASE, **(_CALM if calm else {}), **shape, "model_type": model_type}
    settings = AutoConfig.for_model(**{**options, "vocab_size": vocabulary})
    auto: Any = AutoModel
    base = auto.from_config(settings, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    made = heads(vocabulary)
    if calm:
        for module in made.values():
            last = module[-1] if isinstance(module, nn.Sequential) else module
            if isinstance(last, nn.Linear):
                last.weight.data *= _CALM_GAIN
    for module in (base, *made.values()):
        module.requires_grad_(False)
        for parameter in module.parameters():
            # So that the file of weights is exact for both dtypes.
            parameter.copy_(parameter.bfloat16())
    return Tiny(base, made, {**settings.to_dict(), **config})


def weights(model: Tiny) -> Named:
    """The tensors by the names that most published checkpoints use."""
    named = {f"model.{name}": tensor for name, tensor in model.base.state_dict().items()}
    for head, module in model.heads.items():
        if isinstance(module, Matrix):
            named[head] = module.weight
        else:
            named |= {f"{head}.{name}": tensor for name, tensor in module.state_dict().items()}
    if model.config["tie_word_embeddings"]:
        named.pop("lm_head.weight", None)
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def save(folder: Path, model: Tiny, tokenizer: Files, tensors: Named | None = None) -> Path:
    """Write a checkpoint: config.json, one file of weights, the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config))
    named = weights(model) if tensors is None else tensors
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.link(folder)
    return folder


def internlm2_weights(model: Tiny) -> Named:
    """A Llama model's tensors by InternLM2's names: queries, keys and values in one matrix.

    Its rows are grouped by key head: that head's queries, then its key, then its value.
    """
    config = model.base.config
    groups, size = config.num_key_value_heads, HIDDEN // config.num_attention_heads
    rename = {
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings",
    }
    named = {}
    plain = weights(model)
    for name, tensor in plain.items():
        if name.endswith("q_proj.weight"):
            key, value = (plain[name.replace("q_proj", part)] for part in ("k_proj", "v_proj"))
            parts = [part.reshape(groups, -1, size, HIDDEN) for part in (tensor, key, value)]
            fused = torch.cat(parts, dim=1).reshape(-1, HIDDEN)
            named[name.replace("self_attn.q_proj", "attention.wqkv")] = fused.contiguous()
        elif not name.endswith(("k_proj.weight", "v_proj.weight")):
            for old, new in rename.items():
                name = name.replace(old, new)  # noqa: PLW2901
            named[name] = tensor
    return named
