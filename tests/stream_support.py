"""Workers that stream a known answer, and break off where a test says."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from modelworker_api import wire
from modelworker_server.workers.text import Detokenizer, SampleText
from tests.client_support import Reply, Request, error

DONE = b"data: [DONE]\n\n"
EOS = 0
PROMPT_IDS = tuple(range(900, 950))
"""More than are decoded along with an answer; their text is spaces."""


@dataclass(frozen=True)
class Script:
    """An answer, token by token.

    `drop_first_space` decodes as sentencepiece does, which takes a text's first space for
    the mark of its first word; `shown_eos` is what a server makes of EOS that cannot leave
    special tokens out of `/detokenize`.
    """

    pieces: tuple[bytes, ...]
    drop_first_space: bool = False
    shown_eos: bytes = b""

    @property
    def ids(self) -> tuple[int, ...]:
        """The answer's token ids; EOS is the last."""
        return (*range(1, len(self.pieces) + 1), EOS)

    def decode(self, ids: Sequence[int], eos: bytes = b"") -> str:
        """The text of tokens; EOS is special and has none."""
        known = dict(enumerate((eos, *self.pieces)))
        text = b"".join(known.get(i, b" ") for i in ids).decode(errors="replace")
        return text.removeprefix(" ") if self.drop_first_space else text


@dataclass
class Player:
    """The behaviour of a worker that knows a script.

    It breaks off each stream once as many events as `cuts` says next were sent, by closing
    the connection, or with `failure` as its last event. It refuses to continue anything but
    the answer's own beginning. With `late_end` why it ended comes in an event of its own.
    """

    script: Script
    cuts: list[int] = field(default_factory=list)
    failure: bytes | None = None
    revision: str = "rev-1"
    tell_prompt: bool = True
    detokenizes: bool = True
    late_end: bool = False
    streams: int = 0
    single: int = 0

    async def __call__(self, request: Request) -> Reply:
        """Answer as a worker does."""
        if wrong := self._wrong(request):
            return error(400, wrong, "invalid_request_error")
        headers = {wire.HEADER_REVISION: self.revision}
        if request.path == "/detokenize":
            if not self.detokenizes:
                return error(404, "Not Found", "invalid_request_error")
            text = self.script.decode(request.body["tokens"], self.script.shown_eos)
            return Reply({"prompt": text}, headers=headers)
        chat = request.path.endswith("/chat/completions")
        ids = _prompt_of(request)
        choices = self._choices(request.body, len(ids) - len(PROMPT_IDS))
        if not request.body.get("stream"):
            self.single += 1
            return Reply({"model": "policy", "choices": choices}, headers=headers)
        self.streams += 1
        events = self._events(choices, ids if self.tell_prompt else None, chat=chat)
        if not self.cuts or (cut := self.cuts.pop(0)) > len(events):
            return Reply(parts=_sent([*events, DONE]), headers=headers)
        last = [] if self.failure is None else [self.failure]
        return Reply(parts=_sent([*events[:cut], *last]), cut=True, headers=headers)

    def _wrong(self, request: Request) -> str | None:
        """What no client of ours may ask."""
        body = request.body
        if request.path == "/detokenize":
            return None if body["skip_special_tokens"] else "special tokens are no text"
        ids = _prompt_of(request)
        if ids != (*PROMPT_IDS, *self.script.ids[: len(ids) - len(PROMPT_IDS)]):
            return f"{ids} is no beginning of the answer"
        return None if body.get("stream") or body["max_tokens"] == 1 else "more than one token"

    def _choices(self, body: dict[str, Any], done: int) -> list[dict[str, Any]]:
        """One for each token."""
        ids = self.script.ids
        text = SampleText(
            Detokenizer(self.script.decode, [*PROMPT_IDS, *ids[:done]]),
            body.get("stop") or (),
            include_stop=body.get("include_stop_str_in_output", False),
        )
        choices = []
        for count, token in enumerate(ids[done:], 1):
            stop = None if token == EOS else text.push(token)
            finish = "stop" if stop or token == EOS else None
            if finish is None and count == body["max_tokens"]:
                finish = "length"
            if finish and not stop:
                text.finish()
            logprob = -0.5 * (done + count)
            choices.append(_choice(text.take(), token, logprob, finish, stop))
            if finish:
                break
        return choices

    def _events(
        self, choices: list[dict[str, Any]], prompt_ids: Sequence[int] | None, *, chat: bool
    ) -> list[bytes]:
        """One for each choice; a chat begins with one that only opens the message."""
        end = {name: choices[-1][name] for name in ("finish_reason", "stop_reason")}
        if self.late_end:
            choices[-1] |= {"finish_reason": None, "stop_reason": None}
            choices.append({"index": 0, "text": "", "token_ids": [], "logprobs": None, **end})
        if chat:
            choices.insert(0, {"index": 0, "text": "", "logprobs": None})
        told = None if prompt_ids is None else list(prompt_ids)
        first, *rest = choices
        events = [_chat_event(first, told) if chat else _event({**first, "prompt_token_ids": told})]
        return [*events, *((_chat_event if chat else _event)(choice) for choice in rest)]


def _prompt_of(request: Request) -> tuple[int, ...]:
    prompt = request.body.get("prompt")
    return tuple(prompt) if isinstance(prompt, list) else PROMPT_IDS


def _choice(
    text: str, token: int, logprob: float, finish: str | None, stop: str | None
) -> dict[str, Any]:
    return {
        "index": 0,
        "text": text,
        "token_ids": [token],
        "finish_reason": finish,
        "stop_reason": stop,
        "logprobs": {"token_logprobs": [logprob], "top_logprobs": [None]},
    }


def _event(choice: dict[str, Any]) -> bytes:
    return _sse({"model": "policy", "choices": [choice]})


def _chat_event(choice: dict[str, Any], prompt_ids: list[int] | None = None) -> bytes:
    text, logprobs = choice["text"], choice["logprobs"]
    told = {name: choice[name] for name in choice if name not in {"text", "logprobs"}}
    told["delta"] = {"content": text}
    if logprobs is not None:
        (logprob,) = logprobs["token_logprobs"]
        told["logprobs"] = {"content": [{"token": "t", "logprob": logprob}]}
    return _sse({"model": "policy", "choices": [told], "prompt_token_ids": prompt_ids})


def _sse(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


async def _sent(events: Sequence[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


@dataclass
class Relay:
    """A behaviour that asks the server of a URL, and breaks off streams as `cuts` says next."""

    url: str
    cuts: list[int] = field(default_factory=list)
    streams: int = 0

    async def __call__(self, request: Request) -> Reply:
        """The server's answer, or the beginning of it."""
        if request.body.get("stream"):
            self.streams += 1
            cut = self.cuts.pop(0) if self.cuts else None
            return Reply(parts=self._events(request, cut), cut=cut is not None)
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            answer = await client.post(request.path, json=request.body)
            return Reply(answer.json(), answer.status_code)

    async def _events(self, request: Request, cut: int | None) -> AsyncIterator[bytes]:
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=60) as client,
            client.stream("POST", request.path, json=request.body) as answer,
        ):
            sent = 0
            async for line in answer.aiter_lines():
                if not line:
                    continue
                if sent == cut:
                    return
                yield line.encode() + b"\n\n"
                sent += 1
