"""The tokenizers of the reward models, as files and as their references use them.

Each is written as the published checkpoints have it: tokenizer.json, and a
tokenizer_config.json that names the class, the special tokens and the chat template.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.golden_vocabularies import (
    llama3,
    mistral,
    qwen25,
    qwen25_prm,
    qwen25_prm_appended,
    smollm2,
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
INTERNLM2_TEMPLATE = "{{ bos_token }}" + CHATML
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA31_SYSTEM = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
LLAMA31_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' + "
    f"{LLAMA31_SYSTEM!r} + system + '<|eot_id|>' }}}}"
    "{% for message in rest %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
MATH_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def _chatml_with(system: str) -> str:
    return (
        "{% if messages[0]['role'] != 'system' %}"
        f"{{{{ '<|im_start|>system\\n' + {system!r} + '<|im_end|>\\n' }}}}{{% endif %}}{CHATML}"
    )


QWEN25_TEMPLATE = _chatml_with(QWEN_SYSTEM)
QWEN25_MATH_TEMPLATE = _chatml_with(MATH_SYSTEM)


# --- as files, and as the references use them ----------------------------------------


@dataclass(frozen=True, slots=True)
class Files:
    """A tokenizer as the files of a checkpoint, and loaded from tokenizer.json."""

    folder: Path
    settings: dict[str, Any]
    plain: Any = field(repr=False)
    """`PreTrainedTokenizerFast` of tokenizer.json, which does what that says and no more."""

    @classmethod
    def write(cls, folder: Path, tokenizer: Tokenizer, **settings: Any) -> "Files":
        """Write the files of a tokenizer once; checkpoints get them by `link`."""
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        loaded = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer,
            **{k: v for k, v in settings.items() if k != "tokenizer_class"},
        )
        return cls(folder, settings, loaded)

    def link(self, folder: Path) -> None:
        """Put the files into a checkpoint's folder."""
        (folder / "tokenizer.json").hardlink_to(self.folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps(self.settings))

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without BOS."""
        found: list[int] = self.plain.encode(text, add_special_tokens=False)
        return found

    def id(self, token: str) -> int:
        """Id of a vocabulary entry."""
        found: int | None = self.plain.backend_tokenizer.token_to_id(token)
        assert found is not None, f"no token {token!r}"
        return found

    def chat(self, *turns: tuple[str, str], **options: Any) -> str:
        """A conversation by the chat template."""
        messages = [{"role": role, "content": content} for role, content in turns]
        text: str = self.plain.apply_chat_template(messages, tokenize=False, **options)
        return text

    def chat_ids(self, *turns: tuple[str, str]) -> list[int]:
        """Token ids of a conversation by the chat template."""
        return self.ids(self.chat(*turns))


def _qwen(folder: Path, made: Tokenizer, template: str, **changes: Any) -> Files:
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template}
    return Files.write(folder, made, tokenizer_class="Qwen2Tokenizer", **settings, **changes)


def _mistral(folder: Path, made: Tokenizer, **changes: Any) -> Files:
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **changes}
    return Files.write(folder, made, tokenizer_class="LlamaTokenizer", **settings)


def _llama(folder: Path, template: str) -> Files:
    return Files.write(
        folder,
        llama3(),
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
        chat_template=template,
    )


MAKERS: dict[str, Callable[[Path], Files]] = {
    "qwen": lambda folder: _qwen(folder, qwen25(), QWEN25_TEMPLATE),
    # Skywork's checkpoints name a BOS; the stock Qwen2.5 has none.
    "qwen-bos": lambda folder: _qwen(folder, qwen25(), QWEN25_TEMPLATE, bos_token="<|endoftext|>"),
    "qwen-math": lambda folder: _qwen(folder, qwen25(), QWEN25_MATH_TEMPLATE),
    "qwen-prm": lambda folder: _qwen(folder, qwen25_prm(), QWEN25_TEMPLATE),
    "qwen-prm-appended": lambda folder: _qwen(folder, qwen25_prm_appended(), QWEN25_TEMPLATE),
    "mistral": lambda folder: _mistral(folder, mistral()),
    # ReasonEval-7B pads with BOS, the 34B with a token of its own.
    "mistral-pad-bos": lambda folder: _mistral(folder, mistral(), pad_token="<s>"),
    "mistral-pad": lambda folder: _mistral(folder, mistral("<pad>"), pad_token="<pad>"),
    "internlm2": lambda folder: _mistral(
        folder,
        mistral("<|im_start|>", "<|im_end|>", "<|reward|>"),
        pad_token="</s>",
        chat_template=INTERNLM2_TEMPLATE,
    ),
    "llama31": lambda folder: _llama(folder, LLAMA31_TEMPLATE),
    "llama3": lambda folder: _llama(folder, LLAMA3_TEMPLATE),
    "smollm2": lambda folder: Files.write(
        folder,
        smollm2(),
        tokenizer_class="GPT2Tokenizer",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    ),
}
"""A function that writes each tokenizer."""
