"""LM and RMCall with workers that want a token, on real sockets."""

import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelworker import LM, AccessDenied, RMCall
from modelworker import _settings as settings_module
from tests.client_reward_support import rm, scoring
from tests.client_support import Reply, Request, chunk, error, good, lm, parts, wanting, workers

CANARY = "canary-7f3a.token"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings_module.ENV_TOKEN_FILE, raising=False)


async def stream(_: Request) -> Reply:
    return Reply(parts=parts(chunk("a", 1), chunk("b", 2, "stop"), b"data: [DONE]\n\n"))


def text_of(client: LM) -> str:
    return client.generate("x").text


def stream_of(client: LM) -> str:
    return "".join(part.text for part in client.stream("x"))


@pytest.mark.parametrize(
    ("behaviour", "call", "answer"),
    [
        pytest.param(wanting(CANARY), text_of, "ok x", id="generate"),
        pytest.param(wanting(CANARY, then=stream), stream_of, "ab", id="stream"),
    ],
)
def test_a_given_token_is_shown(behaviour: Any, call: Callable[[LM], str], answer: str) -> None:
    with workers(behaviour) as running, lm(running, api_key=CANARY) as client:
        assert call(client) == answer
        (request,) = running[0].seen
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        assert "x-api-key" not in request.headers


def test_a_reward_model_too() -> None:
    with workers(wanting(CANARY, then=scoring)) as running, rm(running, api_key=CANARY) as client:
        assert len(client.score(("question", "one\n\ntwo")).steps) == 2
        assert [request.path for request in running[0].seen] == ["/v1/rewards"]


def test_nothing_is_shown_to_workers_that_want_nothing() -> None:
    async def open_to_all(request: Request) -> Reply:
        assert not {"authorization", "x-api-key"} & set(request.headers)
        return await good(request)

    with workers(open_to_all) as running, lm(running) as client:
        assert client.generate("x").text == "ok x"


def test_the_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    monkeypatch.setenv(settings_module.ENV_TOKEN_FILE, str(path))
    with workers(wanting("first")) as running, lm(running) as client:
        assert client.generate("x").text == "ok x"
        path.write_text("the-second")
        running[0].behaviour = wanting("the-second")
        assert client.generate("y").text == "ok y", "a refusal makes it read the file again"


@pytest.mark.parametrize("call", [text_of, stream_of], ids=["generate", "stream"])
def test_without_a_token_it_says_what_to_do(call: Callable[[LM], str]) -> None:
    with (
        workers(wanting()) as running,
        lm(running) as client,
        pytest.raises(
            AccessDenied, match=r"no token: it wants a token.*api_key=.*MODELWORKER_TOKEN_FILE"
        ),
    ):
        call(client)
    assert len(running[0].seen) == 1, "there is nothing else to show"


def test_a_namespace_that_may_not_call_is_refused_once() -> None:
    async def refuse(_: Request) -> Reply:
        return error(403, "namespace lab may not call this worker", "permission_denied")

    with (
        workers(refuse) as running,
        lm(running, api_key=CANARY) as client,
        pytest.raises(AccessDenied, match="refused the token given as api_key: namespace lab"),
    ):
        client.generate("x")
    assert len(running[0].seen) == 1


def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(_: Request) -> Reply:
        return Reply({}, 307, {"location": target.url})

    with workers(wanting()) as (target,), workers(elsewhere) as running:
        with lm(running, api_key=CANARY) as client, pytest.raises(Exception, match="HTTP 307"):
            client.generate("x")
        assert not target.seen


def test_no_message_log_line_or_repr_has_the_token(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        workers(wanting("another")) as running,
        lm(running, api_key=CANARY) as client,
        RMCall("prm", endpoints=[running[0].url], api_key=CANARY) as scorer,
    ):
        for call in (lambda: client.generate("x"), lambda: scorer.score(("q", "a"))):
            with pytest.raises(AccessDenied) as caught:
                call()
            assert CANARY not in "".join(traceback.format_exception(caught.value))
        said = [repr(client), repr(scorer), repr(client.aio), repr(client.aio.__getstate__())]
        copied = pickle.loads(pickle.dumps(client))
        said += [repr(copied), repr(copied.aio.__getstate__())]
        running[0].behaviour = wanting(CANARY)
        assert copied.generate("x").text == "ok x", "a pickle carries it"
        copied.close()
    said += [record.getMessage() for record in caplog.records]
    assert CANARY not in "\n".join(said)
