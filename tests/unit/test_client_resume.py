"""How a stream that broke goes on."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker import _requests
from modelworker._requests import Body
from modelworker._results import Chunk
from modelworker._resume import (
    CONTEXT_TOKENS,
    CannotResume,
    Seam,
    answer_text,
    continuation,
    received_ids,
)
from modelworker_server.workers.text import Detokenizer, SampleText

PROMPT = tuple(range(100, 140))


def completion(**options: Any) -> Body:
    params = _requests.sampling(options)
    return _requests.completion("x", params, model="lab/policy", stream=True)


def chat(**options: Any) -> Body:
    params = _requests.sampling(options)
    messages = [{"role": "user", "content": "x"}]
    return _requests.chat(messages, params, model="lab/policy", stream=True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(
            completion(max_tokens=10),
            {"temperature": 1.0, "logprobs": 0, "max_tokens": 7},
            id="completion",
        ),
        pytest.param(
            chat(max_tokens=10, logprobs=2, extra={"chat_template_kwargs": {"thinking": False}}),
            {"temperature": 1.0, "logprobs": 2, "max_tokens": 7},
            id="chat",
        ),
        pytest.param(
            completion(
                max_tokens=4,
                temperature=0.0,
                top_p=0.5,
                top_k=3,
                min_p=0.1,
                repetition_penalty=1.2,
                stop="END",
                stop_token_ids=[9],
                include_stop_str_in_output=True,
                ignore_eos=True,
                seed=2**63 - 2,
                extra={"skip_special_tokens": False},
            ),
            {
                "temperature": 0.0,
                "top_p": 0.5,
                "top_k": 3,
                "min_p": 0.1,
                "repetition_penalty": 1.2,
                "stop": ["END"],
                "stop_token_ids": [9],
                "include_stop_str_in_output": True,
                "ignore_eos": True,
                "seed": 1,
                "skip_special_tokens": False,
                "logprobs": 0,
                "max_tokens": 1,
            },
            id="everything",
        ),
    ],
)
def test_rest(asked: Body, expected: Body) -> None:
    assert continuation(asked, PROMPT).rest([1, 2, 3]) == {
        "model": "lab/policy",
        "prompt": [*PROMPT, 1, 2, 3],
        "n": 1,
        "stream": True,
        "return_token_ids": True,
        **expected,
    }


def test_one_token_leaves_the_stop_strings_to_us() -> None:
    asked = completion(
        stop=["END"], stop_token_ids=[9], extra={"stream_options": {"include_usage": True}}
    )
    how = continuation(asked, PROMPT)
    assert how.rest([1])["stream_options"] == {"include_usage": True}
    assert how.one_token([1]) == {
        "model": "lab/policy",
        "prompt": [*PROMPT, 1],
        "n": 1,
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": 0,
        "stop_token_ids": [9],
        "return_token_ids": True,
    }


def test_detokenize_takes_the_end_of_the_prompt_along() -> None:
    how = continuation(completion(), PROMPT)
    assert how.detokenize([1, 2]) == {
        "model": "lab/policy",
        "tokens": [*PROMPT[-CONTEXT_TOKENS:], 1, 2],
        "skip_special_tokens": True,
    }


@pytest.mark.parametrize(
    ("asked", "prompt_ids", "words"),
    [
        pytest.param(completion(n=2), PROMPT, "several samples", id="several"),
        pytest.param(completion(), None, "which tokens the prompt has", id="prompt-unknown"),
        pytest.param(
            completion(extra={"presence_penalty": 1.0, "min_tokens": 5}),
            PROMPT,
            "min_tokens, presence_penalty cannot be continued",
            id="counted-from-the-beginning",
        ),
        pytest.param(
            chat(extra={"response_format": {"type": "json_object"}}),
            PROMPT,
            "response_format cannot be continued",
            id="grammar",
        ),
    ],
)
def test_what_cannot_be_continued(
    asked: Body, prompt_ids: Sequence[int] | None, words: str
) -> None:
    with pytest.raises(CannotResume, match=words):
        continuation(asked, prompt_ids)


def test_text_without_ids_cannot_be_continued() -> None:
    with pytest.raises(CannotResume, match="which tokens it generated"):
        received_ids([Chunk(0, "a"), Chunk(0, "b", None)])


def test_a_prompt_whose_text_changes_cannot_be_continued() -> None:
    assert answer_text("ab", "abc") == "c"
    with pytest.raises(CannotResume, match="the text of the prompt changes"):
        answer_text("ab", "aXc")


# --- the seam ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "whole", "last", "new", "stop", "clean"),
    [
        pytest.param("ab", "ab", False, "", None, True, id="nothing-held-back"),
        pytest.param("ab", "abcd", False, "cd", None, True, id="the-worker-was-late"),
        pytest.param("ab", "abE", False, "", None, False, id="a-stop-may-begin"),
        pytest.param("ab", "abE", True, "E", None, True, id="no-more-tokens"),
        pytest.param("ab", "abENX", False, "ENX", None, True, id="it-did-not"),
        pytest.param("ab", "abcENDx", False, "c", "END", False, id="stop"),
        pytest.param("ab", "abcENDx", True, "c", "END", False, id="stop-at-the-limit"),
        pytest.param("ab", "abEND\ufffd", False, "", None, False, id="part-of-a-character"),
        pytest.param("ab", "ab\ufffd", True, "\ufffd", None, False, id="it-stays-one"),
    ],
)
def test_seam(has: str, whole: str, last: bool, new: str, stop: str | None, clean: bool) -> None:
    seam = Seam(has, ["END"], include_stop=False)
    assert seam.advance(whole, last=last) == new
    assert (seam.text, seam.stop, seam.clean) == (has + new, stop, clean)


@pytest.mark.parametrize(
    ("stops", "whole", "text", "stop"),
    [
        pytest.param(["bcd", "c"], "abcde", "abc", "c", id="the-one-that-ends-first"),
        pytest.param(["c", "bc"], "abcde", "abc", "bc", id="of-equals-the-longest"),
        pytest.param(["aE", "E!"], "aE!", "aE", "aE", id="begun-before-the-seam"),
    ],
)
def test_seam_keeps_the_stop_where_asked(
    stops: list[str], whole: str, text: str, stop: str
) -> None:
    seam = Seam("a", stops, include_stop=True)
    seam.advance(whole)
    assert (seam.text, seam.stop) == (text, stop)


def test_a_text_that_is_not_that_of_the_tokens() -> None:
    with pytest.raises(CannotResume, match="its text is not that of its tokens"):
        Seam("ab", [], include_stop=False).advance("aXc")


PIECES = [
    b"a",
    b"b",
    b"ab",
    b"E",
    b"EN",
    b"D",
    b"END",
    "é".encode(),
    *(bytes([b]) for b in "€é".encode()),
]


def decode(ids: Sequence[int]) -> str:
    return b"".join(PIECES[i] for i in ids).decode(errors="replace")


def whole_answer(ids: Sequence[int], stops: Sequence[str], *, keep: bool) -> tuple[str, int]:
    """Text, and number of tokens, as one worker gives them."""
    sample = SampleText(Detokenizer(decode, ()), stops, include_stop=keep)
    for count, token in enumerate(ids, 1):
        if sample.push(token) is not None:
            return sample.take(), count
    sample.finish()
    return sample.take(), len(ids)


@settings(max_examples=500)
@given(
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=12),
    st.lists(st.sampled_from(["END", "Da", "b", "abE", "éE", "N"]), max_size=3, unique=True),
    st.booleans(),
    st.data(),
)
def test_wherever_it_is_cut_the_text_is_that_of_one_worker(
    ids: list[int], stops: list[str], keep: bool, data: st.DataObject
) -> None:
    text, count = whole_answer(ids, stops, keep=keep)
    cut = data.draw(st.integers(1, count))
    before = SampleText(Detokenizer(decode, ()), stops, include_stop=keep)
    if any(before.push(token) is not None for token in ids[:cut]):
        return  # The stream had told its end.
    seam = Seam(before.take(), stops, include_stop=keep)
    at = cut
    seam.advance(decode(ids[:at]), last=at == len(ids))
    while seam.stop is None and not seam.clean and at < len(ids):
        at += 1
        seam.advance(decode(ids[:at]), last=at == len(ids))
    if seam.stop is not None or at == len(ids):
        assert (seam.text, at) == (text, count)
        return
    after = SampleText(Detokenizer(decode, ids[:at]), stops, include_stop=keep)
    rest = next((n for n, token in enumerate(ids[at:], 1) if after.push(token) is not None), None)
    if rest is None:
        after.finish()
        rest = len(ids) - at
    assert (seam.text + after.take(), at + rest) == (text, count)
