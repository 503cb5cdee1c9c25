"""Streams whose worker dies, against servers on real sockets: wherever the stream is cut, the
answer is the one that a single worker gives."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from modelworker import LM, Chunk, StreamInterrupted
from tests.client_support import Reply, Request, StubWorker, lm, workers
from tests.stream_support import PROMPT_IDS, Player, Script

PLAIN = Script((b"The", b" sky", b" is", b" blue", b".", b"\n", b"\n", b"So", b" it", b" is"))
FALSE_ALARMS = Script((b"a\n", b"b", b"\n", b" E", b"N", b"x", b"EN", b"D", b" never"))
CHARACTERS = Script((b"na", b"\xc3", b"\xaf", b"ve ", b"\xf0\x9f", b"\x98", b"\x80", b"!\xe2\x82"))


class Case(NamedTuple):
    script: Script
    options: dict[str, Any]


CASES = {
    "plain": Case(PLAIN, {}),
    "limit": Case(PLAIN, {"max_tokens": 6}),
    "stop-dropped": Case(PLAIN, {"stop": "\n\n"}),
    "stop-kept": Case(PLAIN, {"stop": "\n\n", "include_stop_str_in_output": True}),
    "stop-over-tokens": Case(FALSE_ALARMS, {"stop": ["END", "\n\n"]}),
    "stop-over-tokens-kept": Case(
        FALSE_ALARMS, {"stop": ["END", "\n\n"], "include_stop_str_in_output": True}
    ),
    "stop-begun-at-the-limit": Case(FALSE_ALARMS, {"stop": ["END"], "max_tokens": 5}),
    "characters": Case(CHARACTERS, {}),
    "characters-and-stop": Case(CHARACTERS, {"stop": "\U0001f600!"}),
    "eos-shown": Case(
        Script((b"a", b" E", b"N"), shown_eos=b"</s>"), {"stop": ["END"], "max_tokens": 9}
    ),
    "first-space": Case(Script(PLAIN.pieces[1:], drop_first_space=True), {"stop": "blue. So"}),
}


def cuts() -> Iterator[Any]:
    for name, case in CASES.items():
        for route in ("completions", "chat"):
            for cut in range(len(case.script.ids) + 1):
                yield pytest.param(case, route, cut, id=f"{name}-{route}-{cut}")


def stream(client: LM, route: str, options: dict[str, Any]) -> Iterator[Chunk]:
    if route == "chat":
        return client.stream_chat([{"role": "user", "content": "x"}], **options)
    return client.stream("x", **options)


def told(chunks: list[Chunk]) -> tuple[Any, ...]:
    """The answer that the parts make."""
    return (
        "".join(chunk.text for chunk in chunks),
        [token for chunk in chunks for token in chunk.token_ids or ()],
        [value for chunk in chunks for value in chunk.logprobs or ()],
        [(c.finish_reason, c.stop_reason) for c in chunks if c.finish_reason],
    )


def answer(case: Case, route: str, *players: Player) -> tuple[Any, ...]:
    with workers(*players) as running, lm(running) as client:
        return told(list(stream(client, route, case.options)))


@pytest.mark.parametrize(("case", "route", "cut"), list(cuts()))
def test_a_stream_goes_on_wherever_it_is_cut(case: Case, route: str, cut: int) -> None:
    uncut = Player(case.script)
    expected = answer(case, route, uncut)
    assert len(expected[3]) == 1
    player = Player(case.script, cuts=[cut])
    assert answer(case, route, player) == expected
    events = len(expected[1]) + (route == "chat")
    assert (player.streams + player.single > 1) == (cut < events)


@pytest.mark.parametrize("route", ["completions", "chat"])
@pytest.mark.parametrize("second", range(4))
def test_a_stream_goes_on_from_where_it_went_on(route: str, second: int) -> None:
    case = CASES["stop-over-tokens"]
    expected = answer(case, route, Player(case.script))
    # The first cut lies inside a stop string, the others where the next worker had come to.
    assert answer(case, route, Player(case.script, cuts=[4, second, 1])) == expected


def test_the_rest_comes_from_another_worker() -> None:
    dying = StubWorker(Player(PLAIN), name="pod-a")
    with workers(Player(PLAIN)) as (other,), LM("policy", endpoints=[dying.url]) as alone:
        expected = told(list(alone.stream("x")))
        with LM("policy", endpoints=[dying.url, other.url]) as client:
            for _ in range(20):
                parts = client.stream("x")
                first = next(parts)
                if client.in_flight() == {dying.url: 1}:
                    break
                parts.close()
            dying.behaviour = Player(PLAIN, cuts=[0] * 9)
            dying.stop()
            assert told([first, *parts]) == expected


def test_an_error_inside_the_stream_that_another_worker_may_not_have() -> None:
    draining = b'data: {"error": {"message": "draining", "type": "unavailable", "code": 503}}\n\n'
    case = CASES["plain"]
    player = Player(PLAIN, cuts=[3], failure=draining)
    assert answer(case, "completions", player) == answer(case, "completions", Player(PLAIN))


@pytest.mark.parametrize(
    ("player", "options", "words"),
    [
        pytest.param(Player(PLAIN, tell_prompt=False), {}, "which tokens the prompt", id="prompt"),
        pytest.param(
            Player(PLAIN),
            {"extra": {"min_tokens": 4}},
            "min_tokens cannot be continued",
            id="counted",
        ),
        pytest.param(Player(PLAIN, detokenizes=False), {}, "no such route", id="no-detokenize"),
        pytest.param(
            Player(
                PLAIN,
                failure=b'data: {"error": {"message": "a bug", "type": "bug", "code": 500}}\n\n',
            ),
            {},
            "after 2 parts: .* failed with HTTP 500",
            id="the-request's-own-fault",
        ),
    ],
)
def test_a_stream_that_cannot_go_on(player: Player, options: dict[str, Any], words: str) -> None:
    player.cuts = [2]
    with workers(player) as running, lm(running) as client:
        parts: list[Chunk] = []
        with pytest.raises(StreamInterrupted, match=words) as caught:
            parts.extend(client.stream("x", **options))
        assert caught.value.chunks == tuple(parts[:2])
        assert (caught.value.text, caught.value.token_ids) == ("The sky", (1, 2))


def test_another_revision_does_not_go_on() -> None:
    player = Player(PLAIN, cuts=[3])
    with workers(player) as running, lm(running) as client:
        parts = client.stream("x")
        next(parts)
        player.revision = "rev-2"
        with pytest.raises(StreamInterrupted, match=r"revision rev-1 .* has rev-2") as caught:
            list(parts)
        assert caught.value.text == "The sky is"


def test_a_stream_that_brought_nothing_begins_anew_whoever_answers() -> None:
    player = Player(PLAIN, cuts=[1])
    with workers(player) as running, lm(running) as client:

        async def replaced(request: Request) -> Reply:
            reply = await player(request)
            player.revision = "rev-2"
            return reply

        running[0].behaviour = replaced
        assert "".join(part.text for part in stream(client, "chat", {})).startswith("The sky")
        assert player.streams == 2


def test_a_stream_of_all_its_tokens_needs_no_worker_to_end() -> None:
    case = Case(PLAIN, {"max_tokens": 6, "stop": "\n\n"})
    whole = answer(case, "completions", Player(PLAIN, late_end=True))
    assert whole[3] == [("length", None)]
    cut = Player(PLAIN, late_end=True, cuts=[6])
    assert answer(case, "completions", cut) == whole
    assert (cut.streams, cut.single) == (1, 0)


def test_a_stream_that_breaks_again_and_again_ends() -> None:
    player = Player(PLAIN, cuts=[1] * 20)
    with workers(player) as running, lm(running) as client:
        with pytest.raises(StreamInterrupted, match="broke after 4 parts") as caught:
            list(client.stream("x"))
        assert caught.value.token_ids == (1, 2, 3, 4)


def test_the_seed_of_the_rest_is_another_one() -> None:
    player = Player(PLAIN, cuts=[3])
    with workers(player) as (running,), lm([running]) as client:
        list(client.stream("x", seed=7))
        bodies = [one.body for one in running.seen if one.body.get("stream")]
        assert [body["seed"] for body in bodies] == [7, 10]
        assert bodies[1]["prompt"] == [*PROMPT_IDS, 1, 2, 3]
        assert bodies[1]["max_tokens"] == bodies[0]["max_tokens"] - 3
