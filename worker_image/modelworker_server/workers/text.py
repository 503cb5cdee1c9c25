"""Text from tokens as they arrive, and the stop strings in it."""

from collections.abc import Callable, Sequence
from typing import Final

Decode = Callable[[list[int]], str]

_INCOMPLETE: Final = "\ufffd"
_CONTEXT: Final = 6
"""Tokens of the prompt decoded along, so that the first one keeps its leading space."""


class Detokenizer:
    """Incremental decoding: what each token adds to the text, never a partial character.

    A token is decoded together with the ones before it, because sentencepiece drops the
    space of a token that stands first and a character may span several tokens.
    """

    def __init__(self, decode: Decode, prompt_ids: Sequence[int]) -> None:
        self._decode = decode
        self._ids = list(prompt_ids[-_CONTEXT:])
        self._begin = 0
        self._done = len(self._ids)

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._ids.append(token_id)
        new = self._new()
        if new.endswith(_INCOMPLETE) or not new:
            return ""
        self._begin, self._done = self._done, len(self._ids)
        return new

    def flush(self) -> str:
        """What was held back, with replacement characters for what stays incomplete."""
        new = self._new()
        self._done = len(self._ids)
        return new

    def _new(self) -> str:
        before = self._decode(self._ids[self._begin : self._done])
        after = self._decode(self._ids[self._begin :])
        if after.startswith(before):
            return after[len(before) :]
        # The prompt ended inside a character that is complete now.
        pairs = enumerate(zip(before, after, strict=False))
        return after[next((i for i, (old, new) in pairs if old != new), len(after)) :]


class SampleText:
    """The text of one sample: stop strings cut it, and what may begin one is held back."""

    def __init__(
        self, detokenizer: Detokenizer, stops: Sequence[str], *, include_stop: bool
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._include_stop = include_stop
        self._longest = max(map(len, stops), default=0)
        self._text = ""
        self._safe = 0
        self._taken = 0

    def push(self, token_id: int) -> str | None:
        """Add a token; returns the stop string that it completed, if any."""
        if not (new := self._detokenizer.push(token_id)):
            return None
        searched = max(0, len(self._text) - self._longest + 1)
        self._text += new
        if (found := self._find(searched)) is not None:
            begin, stop = found
            self._text = self._text[: begin + len(stop) if self._include_stop else begin]
            self._safe = len(self._text)
            return stop
        self._safe = len(self._text) - self._held()
        return None

    def finish(self) -> None:
        """No more tokens, and no stop string was found: let go of all that was held back."""
        self._text += self._detokenizer.flush()
        self._safe = len(self._text)

    def waiting(self) -> bool:
        """Whether `take` would return any text."""
        return self._safe > self._taken

    def take(self) -> str:
        """The text since the last call that no later token can change."""
        new = self._text[self._taken : self._safe]
        self._taken = self._safe
        return new

    def _find(self, searched: int) -> tuple[int, str] | None:
        """The stop string that ends first; of those that end together the longest."""
        found = [
            (at + len(stop), at, stop)
            for stop in self._stops
            if (at := self._text.find(stop, searched)) >= 0
        ]
        if not found:
            return None
        _, at, stop = min(found)
        return at, stop

    def _held(self) -> int:
        tail = self._text[-self._longest :] if self._longest else ""
        return max(
            (
                size
                for stop in self._stops
                for size in range(1, len(stop))
                if tail.endswith(stop[:size])
            ),
            default=0,
        )
