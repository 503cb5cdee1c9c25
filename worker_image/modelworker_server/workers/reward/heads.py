"""What a checkpoint puts on its hidden states, computed in float32 at the reads alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch.nn.functional import linear

from modelworker_server.workers.reward.checkpoint import Checkpoint, misfit, no_head

Weights = tuple[torch.Tensor, torch.Tensor | None]
"""Weight [outputs, inputs] and bias [outputs] of a linear layer."""

_SINGLE: Final = ("score", "score_head", "classifier", "v_head.summary", "v_head", "reward_head")
"""Where checkpoints keep a head of one linear layer."""
_DOUBLE: Final = ("score.0", "score.2")
"""Where Qwen's reward models keep theirs, with a ReLU between the two."""
_LOG_ROWS: Final = 256
_LOG_TOKENS: Final = 16384
"""Rows, and tokens of the vocabulary, whose logits are in memory at a time."""


class ReadHead(Protocol):
    """From hidden states at reads to rows."""

    def __call__(self, states: Sequence[torch.Tensor], next_ids: torch.Tensor) -> torch.Tensor:
        """The rows, [reads, width] in float32.

        Args:
            states: of each model, [reads, hidden] in its dtype.
            next_ids: the token after each read, [reads]; -1 after the last one.
        """


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Linear layers with a ReLU between one and the next."""

    layers: tuple[Weights, ...]
    cap: float | None = None
    """The language model's soft cap on its logits."""

    def __call__(self, states: Sequence[torch.Tensor], next_ids: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """One output of the last layer for each label."""
        return capped(_through(self.layers, states[0].float()), self.cap)


@dataclass(frozen=True, slots=True)
class ObjectivesHead:
    """ArmoRM's regression and gate (arXiv:2406.12845): its card's code gives the formulas.

    Rewards are a linear layer, transformed by a matrix that takes verbosity out; the gate is
    softmax(MLP(state) / temperature) times a learned scale.
    """

    regression: Weights
    transform: torch.Tensor
    gate: tuple[Weights, ...]
    temperature: float
    scale: float

    def __call__(self, states: Sequence[torch.Tensor], next_ids: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Rewards, transformed rewards and weights of the gate, side by side."""
        inputs = states[0].float()
        rewards = linear(inputs, *self.regression)
        gate = (_through(self.gate, inputs) / self.temperature).softmax(dim=-1) * self.scale
        return torch.cat([rewards, rewards @ self.transform, gate], dim=-1)


@dataclass(frozen=True, slots=True)
class LanguageHead:
    """The output layer over the vocabulary, in the model's dtype."""

    weight: torch.Tensor
    """[vocabulary, hidden]"""
    bias: torch.Tensor | None
    cap: float | None

    def rows_of(self, token_ids: Sequence[int]) -> Weights:
        """The layer for these tokens alone, in float32."""
        at = list(token_ids)
        return self.weight[at].float(), None if self.bias is None else self.bias[at].float()

    def mean(self) -> Weights:
        """The layer whose one output is the mean of all logits, in float32."""
        bias = None if self.bias is None else self.bias.float().mean()[None]
        return self.weight.float().mean(dim=0, keepdim=True), bias

    def log_probs(self, states: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """Log p of one token at each state, [reads]: never more than a part of the logits."""
        inputs = states.float()
        chosen = (inputs * self.weight[token_ids].float()).sum(dim=-1)
        if self.bias is not None:
            chosen = chosen + self.bias[token_ids].float()
        return capped(chosen, self.cap) - self._log_total(inputs)

    def _log_total(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logarithm of the sum over the vocabulary of exp(logit)."""
        total = inputs.new_full((len(inputs),), -torch.inf)
        for begin in range(0, len(self.weight), _LOG_TOKENS):
            part = slice(begin, begin + _LOG_TOKENS)
            bias = None if self.bias is None else self.bias[part].float()
            logits = capped(linear(inputs, self.weight[part].float(), bias), self.cap)
            total = torch.logaddexp(total, logits.logsumexp(dim=-1))
        return total


@dataclass(frozen=True, slots=True)
class LogRatioHead:
    """log p(next token) of the model minus that of its reference model."""

    model: LanguageHead
    reference: LanguageHead

    def __call__(self, states: Sequence[torch.Tensor], next_ids: torch.Tensor) -> torch.Tensor:
        """One number for each read.

        Raises:
            ValueError: a read has no next token.
        """
        if bool((next_ids < 0).any()):
            raise ValueError("a read at the last token has no next token")
        own, other = states
        ratios = [
            self.model.log_probs(own[part], next_ids[part])
            - self.reference.log_probs(other[part], next_ids[part])
            for begin in range(0, len(own), _LOG_ROWS)
            for part in (slice(begin, begin + _LOG_ROWS),)
        ]
        return torch.cat(ratios)[:, None]


def capped(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    """Gemma's soft cap: cap * tanh(logits / cap)."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def classifier_head(checkpoint: Checkpoint, hidden: int, device: torch.device) -> LinearHead:
    """The head of a classification model, from the checkpoint's tensors.

    Raises:
        LoadError: there is none, or its shapes do not fit.
    """
    if all(f"{name}.weight" in checkpoint.names for name in _DOUBLE):
        layers = tuple(_layer(checkpoint, name, device) for name in _DOUBLE)
        _check(layers, _DOUBLE, hidden)
        return LinearHead(layers)
    name = _single(checkpoint, "classification head")
    layers = (_layer(checkpoint, name, device),)
    _check(layers, (name,), hidden)
    return LinearHead(layers)


def value_head(checkpoint: Checkpoint, hidden: int, device: torch.device) -> LinearHead:
    """The same for a head with one output.

    Raises:
        LoadError: there is none, its shapes do not fit, or it has more outputs.
    """
    head = classifier_head(checkpoint, hidden, device)
    if (outputs := len(head.layers[-1][0])) != 1:
        raise misfit("the value head", f"{outputs} outputs", "one")
    return head


def objectives_head(
    checkpoint: Checkpoint, hidden: int, device: torch.device, *, temperature: float
) -> ObjectivesHead:
    """ArmoRM's head, from the checkpoint's tensors.

    Raises:
        LoadError: a part of it is missing, or its shapes do not fit.
    """
    names = sorted(
        (name.removesuffix(".weight") for name in checkpoint.names if _is_gate(name)),
        key=lambda name: int(name.rsplit(".", 1)[1]),
    )
    needed = ("regression_layer.weight", "reward_transform_matrix", "gating.logit_scale")
    if not names or (missing := [name for name in needed if name not in checkpoint.names]):
        lacking = ", ".join(missing) if names else "gating.layers"
        raise no_head(f"the objectives and gate of ArmoRM: it lacks {lacking}")
    regression = _layer(checkpoint, "regression_layer", device)
    gate = tuple(_layer(checkpoint, name, device) for name in names)
    _check((regression,), ("regression_layer",), hidden)
    _check(gate, names, hidden)
    objectives = len(regression[0])
    transform = _float(checkpoint, "reward_transform_matrix", device)
    if tuple(transform.shape) != (objectives, objectives) or len(gate[-1][0]) != objectives:
        raise misfit(
            "reward_transform_matrix and the last layer of gating",
            f"{tuple(transform.shape)} and {len(gate[-1][0])} outputs",
            f"{objectives} objectives",
        )
    return ObjectivesHead(
        regression=regression,
        transform=transform,
        gate=gate,
        temperature=temperature,
        scale=float(checkpoint.tensor("gating.logit_scale").flatten()[0]),
    )


def labels_of(checkpoint: Checkpoint) -> int | None:
    """Outputs of the checkpoint's own head; None if it has none."""
    names = (_DOUBLE[1], *_names(checkpoint))
    found = (name for name in names if f"{name}.weight" in checkpoint.names)
    name = next(found, None)
    return None if name is None else checkpoint.shape(f"{name}.weight")[0]


def _is_gate(name: str) -> bool:
    return name.startswith("gating.layers.") and name.endswith(".weight")


def _names(checkpoint: Checkpoint) -> tuple[str, ...]:
    # OpenRLHF writes into the configuration what it calls its head.
    own = checkpoint.config.get("value_head_prefix")
    return (own, *_SINGLE) if isinstance(own, str) else _SINGLE


def _single(checkpoint: Checkpoint, what: str) -> str:
    names = _names(checkpoint)
    for name in names:
        if f"{name}.weight" in checkpoint.names:
            return name
    looked = ", ".join(f"{name}.weight" for name in dict.fromkeys((*names, *_DOUBLE)))
    raise no_head(f"a {what}: there is none of {looked}")


def _layer(checkpoint: Checkpoint, name: str, device: torch.device) -> Weights:
    weight = _float(checkpoint, f"{name}.weight", device)
    if f"{name}.bias" not in checkpoint.names:
        return weight, None
    return weight, _float(checkpoint, f"{name}.bias", device)


def _float(checkpoint: Checkpoint, name: str, device: torch.device) -> torch.Tensor:
    return checkpoint.tensor(name).to(device=device, dtype=torch.float32)


def _check(layers: Sequence[Weights], names: Sequence[str], hidden: int) -> None:
    """Check that each layer takes what the one before it gives."""
    inputs = hidden
    for (weight, bias), name in zip(layers, names, strict=True):
        if weight.dim() != 2 or weight.shape[1] != inputs:
            raise misfit(f"{name}.weight", f"shape {tuple(weight.shape)}", f"{inputs} inputs")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise misfit(f"{name}.bias", f"shape {tuple(bias.shape)}", f"{len(weight)} outputs")
        inputs = len(weight)


def _through(layers: Sequence[Weights], inputs: torch.Tensor) -> torch.Tensor:
    for weight, bias in layers[:-1]:
        inputs = torch.relu(linear(inputs, weight, bias))
    return linear(inputs, *layers[-1])
