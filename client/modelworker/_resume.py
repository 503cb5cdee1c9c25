"""How a stream that broke goes on: from the tokens that came, on another worker. Pure.

The tokens that were delivered become part of the prompt, so that none is lost and none comes
twice. Two things do not divide at a token: a character that spans several, and a stop string.
A worker holds back text that may be the beginning of either; `Seam` finds that text again, and
says when nothing is held back any more, so that another worker can go on by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelworker._requests import Body
from modelworker._results import Chunk

CONTEXT_TOKENS: Final = 32
"""Tokens of the prompt decoded along with the answer's, which alone would lose the space that
a first token stands for in many vocabularies."""
LEAST_RESUMPTIONS: Final = 3
"""How often one stream may go on elsewhere; more often with more workers."""

_INCOMPLETE: Final = "\ufffd"
_SEEDS: Final = 2**63

_OF_SAMPLING: Final = frozenset(
    {
        "model",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop_token_ids",
        "include_stop_str_in_output",
        "ignore_eos",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "cache_salt",
        "skip_special_tokens",
        "logit_bias",
        "stream_options",
        "priority",
        "user",
    }
)
"""Taken over as they are: what they do to a token does not depend on where the prompt ends."""
_OF_THE_PROMPT: Final = frozenset(
    {
        "messages",
        "prompt",
        "add_special_tokens",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "chat_template_kwargs",
        "documents",
    }
)
"""Of no use any more: the prompt is known as token ids."""
_MADE_ANEW: Final = frozenset(
    {"n", "max_tokens", "stop", "seed", "stream", "logprobs", "top_logprobs"}
)


class CannotResume(Exception):
    """Why a stream cannot go on, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What it takes to go on with the one sample of a stream.

    `shared` is what every request has in common, `limit` the number of tokens of the answer.
    """

    shared: Body
    prompt_ids: tuple[int, ...]
    limit: int
    stops: tuple[str, ...]
    include_stop: bool
    seed: int | None

    def rest(self, ids: Sequence[int]) -> Body:
        """Body of `POST /v1/completions` for a stream of what follows these ids."""
        body = self._after(ids)
        body |= {"max_tokens": self.limit - len(ids), "stream": True}
        if self.stops:
            body["stop"] = list(self.stops)
        return body

    def one_token(self, ids: Sequence[int]) -> Body:
        """The same for the next token alone; stop strings are the caller's to find."""
        body = self._after(ids)
        # Of a stream alone, and refused elsewhere.
        body.pop("stream_options", None)
        return body | {"max_tokens": 1}

    def detokenize(self, ids: Sequence[int]) -> Body:
        """Body of `POST /detokenize` for the end of the prompt and these ids of the answer."""
        return {
            "model": self.shared["model"],
            "tokens": [*self.prompt_ids[-CONTEXT_TOKENS:], *ids],
            "skip_special_tokens": self.shared.get("skip_special_tokens", True),
        }

    def _after(self, ids: Sequence[int]) -> Body:
        body: Body = {**self.shared, "n": 1, "prompt": [*self.prompt_ids, *ids]}
        if self.seed is not None:
            # The seed itself would draw the first tokens' random numbers a second time.
            body["seed"] = (self.seed + len(ids)) % _SEEDS
        return body


def continuation(body: Body, prompt_ids: Sequence[int] | None) -> Continuation:
    """How to go on with the stream that this body asked for.

    Args:
        body: of `POST /v1/completions` or `/v1/chat/completions`.
        prompt_ids: the prompt as the worker read it, None if it did not say.

    Raises:
        CannotResume: if the rest would not be what the whole would have been.
    """
    if body.get("n") != 1:
        raise CannotResume("it has several samples")
    if prompt_ids is None:
        raise CannotResume("the worker did not say which tokens the prompt has")
    if unknown := sorted(body.keys() - _OF_SAMPLING - _OF_THE_PROMPT - _MADE_ANEW):
        raise CannotResume(f"{', '.join(unknown)} cannot be continued in the middle of an answer")
    shared = {name: body[name] for name in body.keys() & _OF_SAMPLING}
    chat = "messages" in body
    shared["logprobs"] = body.get("top_logprobs", 0) if chat else body.get("logprobs")
    return Continuation(
        shared,
        tuple(prompt_ids),
        limit=body["max_tokens"],
        stops=tuple(body.get("stop") or ()),
        include_stop=body.get("include_stop_str_in_output", False),
        seed=body.get("seed"),
    )


class Seam:
    """The text of an answer around the place where its stream broke.

    `text` is what the caller has; `stop` the stop string that ended the answer, once it is
    found; `clean` says that the caller has all the text of the tokens, and that no stop
    string has begun.
    """

    def __init__(self, text: str, stops: Sequence[str], *, include_stop: bool) -> None:
        self.text = text
        self.stop: str | None = None
        self.clean = False
        self._stops = stops
        self._include = include_stop
        self._searched = max(0, len(text) - max(map(len, stops), default=0) + 1)

    def advance(self, whole: str, *, last: bool = False) -> str:
        """The text that the caller does not have yet and that no later token can change.

        Args:
            whole: the text of all tokens so far.
            last: whether no more tokens come, so that nothing is held back.

        Raises:
            CannotResume: if the text is not what the caller has and more.
        """
        if whole.endswith(_INCOMPLETE):
            # A token's text counts once its last character is complete, stop strings in it
            # too; at the end it is what it is.
            self.clean, now = False, whole if last else self.text
        elif (found := self._find(whole)) is not None:
            begin, self.stop = found
            now = whole[: begin + len(self.stop) if self._include else begin]
        else:
            held = 0 if last else _held(whole, self._stops)
            self.clean = not held
            now = whole if self._include else whole[: len(whole) - held]
        if not now.startswith(self.text):
            raise CannotResume("its text is not that of its tokens")
        new, self.text = now[len(self.text) :], now
        return new

    def _find(self, text: str) -> tuple[int, str] | None:
        """Where a stop string begins: the one that ends first, or then the longest."""
        ends = [
            (at + len(stop), at, stop)
            for stop in self._stops
            if (at := text.find(stop, self._searched)) >= 0
        ]
        if not ends:
            return None
        _, begin, stop = min(ends)
        return begin, stop


def answer_text(base: str, decoded: str) -> str:
    """The answer's part of a text that begins with the end of the prompt.

    Raises:
        CannotResume: if the text does not begin with the prompt's.
    """
    if not decoded.startswith(base):
        raise CannotResume("the text of the prompt changes with what follows it")
    return decoded[len(base) :]


def received_ids(chunks: Sequence[Chunk]) -> list[int]:
    """The token ids that came.

    Raises:
        CannotResume: if the worker gave text without token ids.
    """
    ids = [token for chunk in chunks for token in chunk.token_ids or ()]
    if not ids:
        raise CannotResume("the worker did not say which tokens it generated")
    return ids


def _held(text: str, stops: Sequence[str]) -> int:
    """How much of the text's end may be the beginning of a stop string."""
    return max(
        (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])),
        default=0,
    )
