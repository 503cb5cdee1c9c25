"""`chat` and `score`, with models that answer from a list."""

import io
import json
import sys
from typing import Any

import pytest

from modelworker import (
    AccessDenied,
    ContextTooLong,
    InvalidRequest,
    ModelWorkerError,
    NotReady,
    ScoreError,
)
from modelworker.cli._app import run
from modelworker.cli._chat import summary
from tests.cli_support import FakeModel, generation, parts, score, world


def typed(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    """Something comes on stdin."""
    stdin = io.StringIO(text)
    stdin.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)


def test_message_is_answered_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    lm = FakeModel(parts("Hel", "lo"))
    flags = ["-n", "ns", "--context", "c", "--access", "proxy", "--system", "be kind"]
    assert run(["chat", "mw/policy", "hi", *flags, "--temperature", "0"], world(lm=lm)) == 0
    said = capsys.readouterr()
    assert said.out == "Hello\n"
    assert said.err.startswith("[2 tokens, ")
    assert lm.calls == [
        (
            [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
            {"temperature": 0.0},
        )
    ]
    assert lm.made == [
        (
            ("policy",),
            {"namespace": "ns", "context": "c", "kubeconfig": None, "access": "proxy"},
        )
    ]


def test_message_on_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "hi\nthere")
    lm = FakeModel(generation("hello"))
    assert run(["chat", "policy", "--max-tokens", "3", "-o", "json"], world(lm=lm)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["text"], found["usage"]) == (
        "hello",
        {"prompt_tokens": 1, "completion_tokens": 2},
    )
    assert lm.calls == [([{"role": "user", "content": "hi\nthere"}], {"max_tokens": 3})]


def test_conversation_remembers_forgets_and_goes_on_after_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "one\ntwo\n\n/what\n/reset\nthree\n/exit\nfour\n", terminal=True)
    lm = FakeModel(parts("1"), NotReady("no worker"), parts("3"))
    assert run(["chat", "policy"], world(lm=lm)) == 0
    assert [[message["content"] for message in asked] for asked, _ in lm.calls] == [
        ["one"],
        ["one", "1", "two"],
        ["three"],
    ]
    said = capsys.readouterr().err
    assert "error: no worker" in said
    assert "/what is no command" in said


def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "one\ntwo\n", terminal=True)
    lm = FakeModel([*parts("1"), KeyboardInterrupt()], parts("2"))
    assert run(["chat", "policy"], world(lm=lm)) == 0
    assert [len(asked) for asked, _ in lm.calls] == [1, 1], "the stopped message is forgotten"


@pytest.mark.parametrize(
    ("arguments", "outcome", "code", "words"),
    [
        pytest.param(["rwm/p", "hi"], None, 2, "`kubectl modelworker score` calls", id="kind"),
        pytest.param(["p"], None, 2, "there is no message", id="nothing"),
        pytest.param(["p", "hi"], NotReady("no ready worker"), 1, "no ready worker", id="failed"),
        pytest.param(["p", "hi"], AccessDenied("no\nrights"), 3, "error: no rights", id="access"),
        pytest.param(["p", "hi"], InvalidRequest("temperature"), 2, "temperature", id="usage"),
        pytest.param(["p", "hi"], ContextTooLong("too long"), 1, "too long", id="too-long"),
    ],
)
def test_what_goes_wrong(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    outcome: ModelWorkerError | None,
    code: int,
    words: str,
) -> None:
    typed(monkeypatch, "")
    assert run(["chat", *arguments], world(lm=FakeModel(outcome))) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("tokens", "finish", "line"),
    [
        pytest.param(10, "stop", "[10 tokens, 2.0 s, 6.0 tokens/s, first after 0.50 s]", id="stop"),
        pytest.param(None, None, "[2.0 s, first after 0.50 s]", id="not-counted"),
        pytest.param(
            4,
            "length",
            "[4 tokens, 2.0 s, 2.0 tokens/s, first after 0.50 s, cut at --max-tokens]",
            id="cut",
        ),
    ],
)
def test_summary(tokens: int | None, finish: str | None, line: str) -> None:
    assert summary(tokens, 2.0, 0.5, finish) == line


FAILED = ScoreError("input 1: no steps", 1, None, "no_steps")


def test_scores_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    rm = FakeModel([score(0.9, 0.25), FAILED])
    flags = ["--separator", "\n", "--aggregation", "min"]
    assert run(["score", "prm", "2+2?", "aaa\nbbb\n", "x", *flags], world(rm=rm)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ANSWER   WHAT     SCORE      TEXT",
        "1        step 1   0.900000   aaa",
        "1        step 2   0.250000   bbb",
        "1        min      0.250000   MathShepherd, 12 tokens",
        "2        error               input 1: no steps",
    ]
    assert rm.calls == [
        (
            [("2+2?", "aaa\nbbb\n"), ("2+2?", "x")],
            {"separator": "\n", "aggregation": "min", "on_error": "return"},
        )
    ]


def test_scores_of_json_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Any] = [
        {"question": "q", "response": "r"},
        {"question": "q", "steps": ["a", "b"]},
        ["q", "r"],
        ["q", ["a"]],
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]},
    ]
    typed(monkeypatch, "\n\n".join(map(json.dumps, lines)))
    rm = FakeModel([score(0.5)] * len(lines))
    assert run(["score", "prm", "-o", "json"], world(rm=rm)) == 0
    assert [one["score"] for one in json.loads(capsys.readouterr().out)["items"]] == [0.5] * 5
    asked, _ = rm.calls[0]
    assert asked == [
        ("q", "r"),
        ("q", ["a", "b"]),
        ("q", "r"),
        ("q", ["a"]),
        lines[-1]["messages"],
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        pytest.param(["prm"], "", "there is nothing to score", id="nothing"),
        pytest.param(["prm"], "{", "line 1 is no JSON", id="no-json"),
        pytest.param(["prm"], '[1, "x"]', "line 1 must be like", id="shape"),
        pytest.param(["prm"], '["q", "r"]\n{"question": 1}', "line 2 must be", id="second"),
        pytest.param(["prm", "q"], "", "the question has no answer", id="no-answer"),
        pytest.param(["mw/x", "q", "a"], "", "`kubectl modelworker chat` calls", id="kind"),
    ],
)
def test_nothing_to_score(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    stdin: str,
    words: str,
) -> None:
    typed(monkeypatch, stdin)
    assert run(["score", *arguments], world()) == 2
    assert words in capsys.readouterr().err


def test_error_is_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    rm = FakeModel([FAILED])
    assert run(["score", "prm", "q", "a", "-o", "json"], world(rm=rm)) == 1
    assert json.loads(capsys.readouterr().out) == {
        "items": [{"error": {"type": "ScoreError", "message": "input 1: no steps"}}]
    }
