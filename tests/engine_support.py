"""Small random models with a byte tokenizer, and workers that run them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from modelworker_server.workers.base import BaseModelWorker, ModelConfig, SamplingParams
from modelworker_server.workers.registry import create

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

_COMMON: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Large enough that greedy output wanders instead of repeating one token.
    "initializer_range": 0.4,
}

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2},
    "mistral-window": {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8},
    "gemma2": {
        "model_type": "gemma2",
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 8,
        "query_pre_attn_scalar": 8,
        "tie_word_embeddings": False,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 8,
        "num_hidden_layers": 6,
        "query_pre_attn_scalar": 8,
        "tie_word_embeddings": False,
    },
    "phi": {"model_type": "phi", "num_key_value_heads": 4},
    "gpt2": {"model_type": "gpt2"},
    "opt": {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"model_type": "bloom"},
    "falcon-alibi": {"model_type": "falcon", "alibi": True, "new_decoder_architecture": False},
}


def tokenizer(*, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each byte behind eight special ones; BOS is added to plain texts."""
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<a>", "<b>", "<c>", "<d>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*specials, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in specials])
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=chat_template,
    )


def random_model(kind: str, *, seed: int = 0, **overrides: Any) -> Any:
    """A model with random weights in float32."""
    torch.manual_seed(seed)
    settings = AutoConfig.for_model(**{**_COMMON, **KINDS[kind], **overrides})
    auto: Any = AutoModelForCausalLM
    return auto.from_config(settings, dtype=torch.float32).eval()


def save(folder: Path, kind: str = "llama", **overrides: Any) -> Path:
    """Write a checkpoint with random weights and the byte tokenizer into a folder."""
    random_model(kind, **overrides).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """The model by transformers alone, in float32."""
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def greedy(model: Any, prompt_ids: Sequence[int], tokens: int, **options: Any) -> list[int]:
    """The new tokens of transformers' own greedy `generate`."""
    ids = torch.tensor([list(prompt_ids)])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            **options,
        )
    new: list[int] = output[0, len(prompt_ids) :].tolist()
    return new


def plain(tokens: int, **changes: Any) -> SamplingParams:
    """Greedy sampling of that many tokens."""
    return SamplingParams(**{"max_tokens": tokens, "temperature": 0.0, **changes})


def config(folder: Path, **changes: Any) -> ModelConfig:
    """The configuration of a local model."""
    local: dict[str, Any] = {"source": "local", "model": str(folder), "name": "tiny", "created": 7}
    return ModelConfig(**{**local, **changes})


@contextmanager
def running(settings: ModelConfig) -> Iterator[tuple[asyncio.Runner, BaseModelWorker]]:
    """A loaded worker, and the runner of the event loop that it belongs to."""
    with asyncio.Runner() as runner:
        worker = create("transformers", settings)
        runner.run(worker.load(lambda *_: None))
        try:
            yield runner, worker
        finally:
            runner.run(worker.close())
