"""Incremental decoding and stop strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers.convert_slow_tokenizer import bytes_to_unicode

from modelworker_server.workers.text import Decode, Detokenizer, SampleText
from tests.engine_support import tokenizer

BYTES = tokenizer().backend_tokenizer


def sentencepiece_like() -> Tokenizer:
    """Pieces with a space mark, and a byte token for all that has no piece."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "cat", "▁sat"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return made


PIECES = sentencepiece_like()


def of_bytes(data: bytes) -> list[int]:
    """Token ids of the byte tokenizer."""
    characters = bytes_to_unicode()  # type: ignore[no-untyped-call]
    return [BYTES.get_vocab()[characters[byte]] for byte in data]


def ids(*pieces: str) -> list[int]:
    return [PIECES.get_vocab()[piece] for piece in pieces]


def decode_bytes(tokens: list[int]) -> str:
    return str(BYTES.decode(tokens, skip_special_tokens=True))


def decode_pieces(tokens: list[int]) -> str:
    return str(PIECES.decode(tokens))


def stream(decode: Decode, prompt: list[int], tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(decode, prompt)
    return [*(detokenizer.push(token) for token in tokens), detokenizer.flush()]


@pytest.mark.parametrize(
    ("prompt", "answer", "parts"),
    [
        pytest.param(b"", "aé".encode(), ["a", "", "é", ""], id="two-bytes"),
        pytest.param(
            b"x", "€😀".encode(), ["", "", "€", "", "", "", "😀", ""], id="three-and-four"
        ),
        pytest.param(b"x", b"a\xe2", ["a", "", "\ufffd"], id="cut-off-at-the-end"),
        pytest.param(b"x", b"\xffa", ["", "\ufffda", ""], id="invalid-byte"),
        pytest.param(b"caf\xc3", b"\xa9!", ["é", "!", ""], id="prompt-ends-inside-a-character"),
        pytest.param("a\ufffd".encode(), b"b", ["b", ""], id="prompt-ends-in-replacement"),
    ],
)
def test_characters_are_whole(prompt: bytes, answer: bytes, parts: list[str]) -> None:
    assert stream(decode_bytes, of_bytes(prompt), of_bytes(answer)) == parts


@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        pytest.param(ids("▁the"), ids("▁sat", "▁the", "cat"), " sat thecat", id="keeps-the-space"),
        pytest.param([], ids("▁the", "cat"), "thecat", id="drops-it-at-the-very-start"),
        pytest.param(ids("▁the"), ids("<0xC3>", "<0xA9>", "▁sat"), "é sat", id="byte-fallback"),
    ],
)
def test_sentencepiece_spaces(prompt: list[int], answer: list[int], text: str) -> None:
    assert "".join(stream(decode_pieces, prompt, answer)) == text


@given(data=st.binary(max_size=30) | st.text(max_size=12).map(lambda text: text.encode()))
def test_parts_make_the_whole_text(data: bytes) -> None:
    tokens = of_bytes(data)
    assert "".join(stream(decode_bytes, of_bytes(b"ab"), tokens)) == decode_bytes(tokens)


@given(text=st.text(max_size=12))
def test_no_partial_character_is_emitted(text: str) -> None:
    parts = stream(decode_bytes, [], of_bytes(text.encode()))
    assert [part for part in parts if part] == list(text) or "\ufffd" in text


def sample_text(stops: list[str], *, include: bool = False) -> SampleText:
    return SampleText(Detokenizer(decode_bytes, []), stops, include_stop=include)


@pytest.mark.parametrize(
    ("stops", "text", "found", "texts"),
    [
        pytest.param(["\n\n"], "a\n\nb", "\n\n", ("a", "a\n\n"), id="cut"),
        pytest.param(["END"], "ENEND", "END", ("EN", "ENEND"), id="false-start"),
        pytest.param(["aab"], "aaab", "aab", ("a", "aaab"), id="overlapping-start"),
        pytest.param(["abc", "b"], "abc", "b", ("a", "ab"), id="first-to-end-wins"),
        pytest.param(
            ["c", "bc"], "abc", "bc", ("a", "abc"), id="longest-of-those-that-end-together"
        ),
        pytest.param(["é"], "caféx", "é", ("caf", "café"), id="several-bytes"),
        pytest.param(["zz"], "abz", None, ("abz", "abz"), id="not-found"),
        pytest.param([], "abz", None, ("abz", "abz"), id="no-stops"),
    ],
)
@pytest.mark.parametrize("include", [False, True], ids=["cut", "include"])
def test_stop_strings(
    stops: list[str], text: str, found: str | None, texts: tuple[str, str], include: bool
) -> None:
    sample = sample_text(stops, include=include)
    shown = ""
    seen = None
    for token in of_bytes(text.encode()):
        seen = sample.push(token)
        shown += sample.take()
        if seen is not None:
            break
    if seen is None:
        sample.finish()
        shown += sample.take()
    assert seen == found
    assert shown == texts[include]


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    sample = sample_text(["STOP"])
    parts = []
    for token in of_bytes(b"aSTxSTO"):
        sample.push(token)
        parts.append(sample.take())
    assert parts == ["a", "", "", "STx", "", "", ""]
    sample.finish()
    assert sample.take() == "STO"


@given(
    text=st.text(alphabet="abé", max_size=20),
    stops=st.lists(st.text(alphabet="abé", min_size=1, max_size=3), max_size=3),
)
def test_what_was_shown_never_changes(text: str, stops: list[str]) -> None:
    sample = sample_text(stops)
    shown, found = "", None
    for token in of_bytes(text.encode()):
        found = sample.push(token)
        shown += sample.take()
        if found is not None:
            break
    if found is None:
        sample.finish()
        shown += sample.take()
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(shown + found)
        assert not any(stop in shown for stop in stops)
