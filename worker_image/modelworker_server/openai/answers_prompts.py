"""The log-probabilities of a prompt's own tokens, and where each of them begins in its text."""

from collections.abc import Callable, Sequence
from typing import Final

from modelworker_api.logprobs import PromptLogprob, PromptLogprobs
from modelworker_server.openai.answers import TokenText, finite
from modelworker_server.workers.base import TokenLogprob

_INCOMPLETE: Final = "\ufffd"
"""What a tokenizer writes for a character whose bytes are not all there."""
_LONGEST_CHARACTER: Final = 4
"""Bytes of UTF-8, and so tokens that one character may span."""
_LOOK_AHEAD: Final = 16
"""Characters that a tokenizer may have changed before a token is looked for further on."""


def prompt_logprobs(
    prompt_ids: Sequence[int], scores: Sequence[TokenLogprob], top: int, token_text: TokenText
) -> PromptLogprobs:
    """A prompt's tokens, each with the `top` likeliest ones, as vLLM lists them.

    Args:
        prompt_ids: All of its tokens.
        scores: Of those from the second one on.
        top: At most as many as the scores hold.
        token_text: How a token prints.
    """
    listed: PromptLogprobs = [None]
    for token_id, score in zip(prompt_ids[1:], scores, strict=True):
        entries = {token_id: _entry(token_id, score.logprob, score.rank, token_text)}
        for rank, (other, logprob) in enumerate(score.top[:top], start=1):
            entries.setdefault(other, _entry(other, logprob, rank, token_text))
        listed.append(entries)
    return listed


def _entry(token_id: int, logprob: float, rank: int | None, token_text: TokenText) -> PromptLogprob:
    return PromptLogprob(logprob=finite(logprob), rank=rank, decoded_token=token_text(token_id))


def prompt_offsets(
    text: str,
    prompt_ids: Sequence[int],
    token_text: TokenText,
    decode: Callable[[Sequence[int]], str],
) -> list[int]:
    """The character of `text` at which each token begins.

    A token that is not in the text, such as one that the tokenizer puts before it, begins
    where the next one does; so do the later parts of a character that spans several tokens.

    Args:
        text: What the tokens were made of, or what they decode to.
        prompt_ids: The tokens.
        token_text: How a token prints behind another one, with the space that it begins with.
        decode: The text of some tokens by themselves.
    """
    offsets: list[int] = []
    place = 0
    run: list[int] = []
    for token_id in prompt_ids:
        offsets.append(place)
        run.append(token_id)
        piece = token_text(token_id) if len(run) == 1 else decode(run)
        if piece.endswith(_INCOMPLETE) and len(run) < _LONGEST_CHARACTER:
            continue
        if not text.startswith(piece, place) and len(run) == 1:
            # At the beginning of a text, some tokenizers drop the space of its first token.
            piece = decode(run)
        found = text.find(piece, place, place + len(piece) + _LOOK_AHEAD)
        if found >= 0:
            place = found + len(piece)
        run = []
    return offsets
