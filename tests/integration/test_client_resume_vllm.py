"""A cut stream's text against vLLM's own detokenizer: no engine, and no model."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker._resume import CONTEXT_TOKENS, Seam, answer_text
from tests.engine_support import tokenizer

detokenizer: Any = pytest.importorskip("vllm.v1.engine.detokenizer")

TOKENIZER: Any = tokenizer()
TEXTS = st.lists(
    st.sampled_from(["a", "b", " ", "\n\n", "é", "€", "😀", "日", "本", "END", "E", "N"]),
    min_size=2,
    max_size=12,
).map("".join)


class Told(NamedTuple):
    """What a worker sends of an answer."""

    text: str
    tokens: int
    stop: str | None


def vllm(
    prompt: Sequence[int], ids: Sequence[int], stops: list[str], *, keep: bool, sent: int
) -> Told:
    """The answer `ids` as vLLM streams it, as far as so many tokens were sent."""
    params = SimpleNamespace(
        stop=stops,
        min_tokens=0,
        include_stop_str_in_output=keep,
        skip_special_tokens=True,
        spaces_between_special_tokens=True,
    )
    request = SimpleNamespace(request_id="r", prompt_token_ids=list(prompt), sampling_params=params)
    made = detokenizer.FastIncrementalDetokenizer(TOKENIZER, request)
    text = ""
    for count, token in enumerate(ids[:sent], 1):
        stop = made.update([token], False)
        text += made.get_next_output_text(stop is not None or count == len(ids), True)
        if stop is not None:
            return Told(text, count, stop)
    return Told(text, min(sent, len(ids)), None)


@settings(max_examples=300, deadline=None)
@given(
    TEXTS,
    TEXTS,
    st.sampled_from([[], ["END"], ["\n\n", "END"], ["日本"], ["a😀"]]),
    st.booleans(),
    st.data(),
)
def test_the_text_is_that_of_one_worker(
    before: str, answer: str, stops: list[str], keep: bool, data: st.DataObject
) -> None:
    prompt: list[int] = TOKENIZER(before)["input_ids"]
    ids: list[int] = TOKENIZER(answer, add_special_tokens=False)["input_ids"]
    whole = vllm(prompt, ids, stops, keep=keep, sent=len(ids))
    at = data.draw(st.integers(1, whole.tokens - 1 if whole.tokens > 1 else 1), label="cut")
    cut = vllm(prompt, ids, stops, keep=keep, sent=at)

    tail = prompt[-CONTEXT_TOKENS:]
    seam = Seam(cut.text, stops, include_stop=keep)

    def advance() -> None:
        text = answer_text(TOKENIZER.decode(tail), TOKENIZER.decode(tail + ids[:at]))
        seam.advance(text, last=at == len(ids))

    if cut.stop is None:
        advance()
        while seam.stop is None and not seam.clean and at < len(ids):
            at += 1
            advance()
        rest = Told("", 0, seam.stop)
        if seam.stop is None:
            rest = vllm(prompt + ids[:at], ids[at:], stops, keep=keep, sent=len(ids))
        assert Told(seam.text + rest.text, at + rest.tokens, rest.stop) == whole
