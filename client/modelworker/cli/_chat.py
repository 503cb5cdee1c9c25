"""`kubectl modelworker chat`: one message, or a conversation on a terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import typer

from modelworker.cli._cluster import Target
from modelworker.cli._failures import Code, Failure
from modelworker.cli._names import of_kind
from modelworker.cli._output import emit
from modelworker.cli._world import World, caller
from modelworker_api import kube

_HELP: Final = (
    "/reset begins a new conversation, /system TEXT sets what the model is told first, "
    "/exit or Ctrl-D ends. Ctrl-C stops an answer."
)

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """How the answers should be."""

    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of a call; what is not said is the client's default."""
        given = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def opening(self) -> list[Message]:
        """What stands before the first message."""
        return [{"role": "system", "content": self.system}] if self.system else []


def chat(
    world: World,
    target: Target,
    name: str,
    message: str | None,
    wish: Wish,
    *,
    access: str | None,
    output: str | None,
) -> Code:
    """Answer a message; without one, what comes from stdin, or what is typed.

    Raises:
        Failure: if there is no message, or it cannot be answered.
    """
    model = of_kind(name, kube.MODELWORKER, "`kubectl modelworker score` calls reward models")
    typed = message is None and world.interactive and output is None
    if message is None and not typed:
        message = sys.stdin.read() if not sys.stdin.isatty() else ""
    if not typed and not (message or "").strip():
        raise Failure("there is no message; give it behind the name, or on stdin", Code.USAGE)
    with caller(world.lm, model, target, access) as lm:
        if typed:
            _converse(world, lm, wish)
        else:
            _answer(
                world, lm, [*wish.opening, {"role": "user", "content": message or ""}], wish, output
            )
    return Code.OK


def _answer(
    world: World, lm: Any, messages: Sequence[Message], wish: Wish, output: str | None
) -> None:
    if output is None:
        _stream(world, lm, messages, wish)
        return
    generation = lm.chat(messages, **wish.options)
    emit({"text": generation.text, **asdict(generation)}, output)


def _stream(world: World, lm: Any, messages: Sequence[Message], wish: Wish) -> str:
    """Print an answer as it comes, and how long it was; returns its text."""
    began, first, tokens, counted = world.clock(), None, 0, True
    text, finish = "", None
    for chunk in lm.stream_chat(messages, **wish.options):
        if first is None:
            first = world.clock()
        text += chunk.text
        counted = counted and chunk.token_ids is not None
        tokens += len(chunk.token_ids or ())
        finish = chunk.finish_reason or finish
        typer.echo(chunk.text, nl=False)
        sys.stdout.flush()
    typer.echo()
    took = world.clock() - began
    world.say(summary(tokens if counted else None, took, (first or began) - began, finish))
    return text


def summary(tokens: int | None, seconds: float, first: float, finish: str | None) -> str:
    """The line below an answer; its rate is that of the tokens behind the first."""
    said = [f"{tokens} tokens" if tokens is not None else "", f"{seconds:.1f} s"]
    if tokens is not None and tokens > 1 and seconds > first:
        said.append(f"{(tokens - 1) / (seconds - first):.1f} tokens/s")
    said.append(f"first after {first:.2f} s")
    if finish == "length":
        said.append("cut at --max-tokens")
    return f"[{', '.join(one for one in said if one)}]"


def _converse(world: World, lm: Any, wish: Wish) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives input() its history and its keys
    world.say(_HELP)
    history = list(wish.opening)
    for line in _typed(lambda: input("> ")):
        match line.split(maxsplit=1):
            case ["/exit" | "/quit"]:
                return
            case ["/reset"]:
                history = list(wish.opening)
                world.say("a new conversation")
            case ["/system", *rest]:
                wish = Wish(" ".join(rest) or None, wish.max_tokens, wish.temperature)
                history = list(wish.opening)
                world.say("a new conversation, with another system message")
            case ["/help"]:
                world.say(_HELP)
            case [word, *_] if word.startswith("/"):
                world.say(f"{word} is no command. {_HELP}")
            case _:
                _turn(world, lm, history, line, wish)


def _turn(world: World, lm: Any, history: list[Message], line: str, wish: Wish) -> None:
    """One message and its answer; an answer that failed leaves no trace in the history."""
    from modelworker import ModelWorkerError  # noqa: PLC0415 - it is loaded by now

    messages = [*history, {"role": "user", "content": line}]
    try:
        text = _stream(world, lm, messages, wish)
    except KeyboardInterrupt:
        world.say("\n[stopped; this message is forgotten]")
    except ModelWorkerError as error:
        world.say(f"error: {error}")
    else:
        history[:] = [*messages, {"role": "assistant", "content": text}]


def _typed(ask: Callable[[], str]) -> Iterator[str]:
    """The lines that are typed, without empty ones; Ctrl-C drops a line, Ctrl-D ends."""
    while True:
        try:
            line = ask().strip()
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            continue
        if line:
            yield line
