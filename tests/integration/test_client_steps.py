"""step, logprobs and OpenR's call against stand-ins for workers on loopback sockets."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from modelworker import LM, Beam, InvalidRequest, Unsupported, WorkerFailed
from modelworker.integrations.openr import OpenRLM
from tests import client_support
from tests.client_support import Reply, Request, completion, workers
from tests.provider_support import HI, anthropic_lm, openai_lm

SEPARATOR = "\n\n"


def ids_of(text: str) -> list[int]:
    return list(text.encode())


async def worker(request: Request) -> Reply:
    """Tokens are bytes; sample i says `i` and the separator, sample 2 ends without it."""
    body = request.body
    if request.path == "/tokenize":
        said = (
            body["prompt"] if "prompt" in body else "|".join(m["content"] for m in body["messages"])
        )
        special = [1] if body["add_special_tokens"] else []
        ids = [*special, *ids_of(said)]
        return Reply({"count": len(ids), "max_model_len": 512, "tokens": ids})
    if body.get("echo"):
        ids = body["prompt"]
        logprobs = {
            "tokens": [chr(token) for token in ids],
            "token_logprobs": [None, *(-float(token) for token in ids[1:])],
            "top_logprobs": None,
            "text_offset": list(range(len(ids))),
        }
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs}
        return Reply({"model": "policy", "choices": [choice]})
    reply = completion(request)
    for choice in reply.body["choices"]:
        ended = choice["index"] == 2
        text = str(choice["index"]) + ("" if ended else SEPARATOR)
        choice |= {
            "text": text,
            "token_ids": ids_of(text),
            "logprobs": {"token_logprobs": [-0.5] * len(text), "top_logprobs": None},
            "stop_reason": None if ended else SEPARATOR,
        }
    return reply


def client(server: Any, **options: Any) -> LM:
    return LM("policy", endpoints=[server.url], **options)


def test_a_tree_grows_in_token_space() -> None:
    with workers(worker) as (server,), client(server) as lm:
        roots = [Beam.start("ab"), Beam.start("ab"), Beam.start(HI), Beam.start([9, 9])]
        level = lm.step(roots, n=3, max_tokens=7, temperature=0.5)
        # Equal prompts are tokenised once, a conversation by its template alone.
        asked = [request.body for request in server.seen if request.path == "/tokenize"]
        assert sorted(map(str, asked)) == sorted(
            map(
                str,
                [
                    {"model": "policy", "prompt": "ab", "add_special_tokens": True},
                    {
                        "model": "policy",
                        "messages": HI,
                        "add_generation_prompt": True,
                        "add_special_tokens": False,
                    },
                ],
            )
        )
        assert [[beam.text for beam in children] for children in level] == [
            ["0\n\n", "1\n\n", "2"]
        ] * 4
        assert [beam.done for beam in level[0]] == [False, False, True]
        assert [children[0].session for children in level] == [beam.session for beam in roots]
        request = server.seen[-1].body
        assert (request["n"], request["stop"], request["max_tokens"]) == (3, ["\n\n"], 7)
        assert request["include_stop_str_in_output"] is True

        seen = len(server.seen)
        ((grown, *_),) = lm.step([level[0][1]], n=1)
        (second,) = server.seen[seen:]
        assert second.body["prompt"] == [1, *ids_of("ab"), *ids_of("1\n\n")]
        assert (grown.text, grown.steps) == ("1\n\n0\n\n", ("1\n\n", "0\n\n"))
        assert grown.prompt_token_ids == (1, *ids_of("ab"))
        assert lm.step([], n=2) == []


def test_a_tree_stays_on_one_worker() -> None:
    with workers(worker, worker, worker) as running:
        with LM("policy", endpoints=[one.url for one in running]) as lm:
            beams = [Beam.start([1, 2], session="tree")]
            for _ in range(4):
                beams = [beam for row in lm.step(beams, n=2) for beam in row][:2]
        assert sorted(bool(one.seen) for one in running) == [False, False, True]


def test_an_adapter_is_the_model_that_requests_name() -> None:
    with workers(worker) as (server,), client(server, adapter="sft") as lm:
        lm.step([Beam.start("a")], n=1)
        lm.generate("x")
        lm.logprobs(["a"], ["b"])
        assert {request.body["model"] for request in server.seen} == {"sft"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"n": 0}, "n must be", id="n"),
        pytest.param({"n": 1, "stop": []}, "needs a separator", id="no-separator"),
        pytest.param({"n": 1, "stop": ""}, "stop must hold", id="empty-separator"),
        pytest.param(
            {"n": 1, "include_stop_str_in_output": False}, "unknown argument", id="not-kept"
        ),
        pytest.param({"n": 1, "max_tokens": 0}, "max_tokens must be", id="max-tokens"),
    ],
)
def test_step_refused(options: dict[str, Any], message: str) -> None:
    with workers(worker) as (server,), client(server) as lm:
        with pytest.raises(InvalidRequest, match=message):
            lm.step([Beam.start([1])], **options)
        assert server.seen == []


def test_log_probabilities_of_given_continuations() -> None:
    with workers(worker) as (server,), client(server) as lm:
        text, ids = lm.logprobs(["ab", [7, 8]], ["cd", [9]])
        assert (text.text, text.token_ids) == ("cd", (99, 100))
        assert (text.logprobs, text.cumulative_logprob) == ((-99.0, -100.0), -199.0)
        assert (ids.text, ids.token_ids, ids.logprobs) == ("\t", (9,), (-9.0,))
        assert (ids.finish_reason, lm.logprobs([], [])) == (None, [])
        scored = [request.body for request in server.seen if request.path != "/tokenize"]
        assert {"prompt": [1, 97, 98, 99, 100], "max_tokens": 0, "echo": True, "logprobs": 0} in [
            {name: body[name] for name in ("prompt", "max_tokens", "echo", "logprobs")}
            for body in scored
        ]


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        pytest.param(["a"], [], "1 prompts and 0 completions", id="unequal"),
        pytest.param("a", ["b"], "prompts must be a list", id="text"),
        pytest.param(["a"], "b", "completions must be a list", id="completion-text"),
        pytest.param(["a"], [""], "completion 0 is empty", id="empty"),
        pytest.param([[]], ["b"], "prompt 0 is empty", id="empty-prompt"),
        pytest.param(["a"], [[-1]], "negative token id", id="negative"),
    ],
)
def test_logprobs_refused(prompts: Any, completions: Any, message: str) -> None:
    with workers(worker) as (server,), client(server) as lm:
        with pytest.raises(InvalidRequest, match=message):
            lm.logprobs(prompts, completions)
        assert server.seen == []


def test_an_echo_that_scores_nothing_is_the_workers_failure() -> None:
    with (
        workers(client_support.good) as (server,),
        client(server) as lm,
        pytest.raises(WorkerFailed, match="not every token"),
    ):
        lm.logprobs([[1, 2, 3]], [[4, 5]])


@pytest.mark.parametrize("provider", [openai_lm, anthropic_lm])
@pytest.mark.parametrize("method", ["step", "logprobs", "embed", "count_tokens"])
def test_other_providers_do_not_do_that(provider: Any, method: str) -> None:
    calls = {
        "step": lambda lm: lm.step([Beam.start("a")], n=1),
        "logprobs": lambda lm: lm.logprobs(["a"], ["b"]),
        "embed": lambda lm: lm.embed("a"),
        "count_tokens": lambda lm: lm.count_tokens("a"),
    }
    with workers(worker) as (server,), provider(server) as lm:
        with pytest.raises(Unsupported, match=f"{method} is for ModelWorkers"):
            calls[method](lm)
        assert server.seen == []


def config(**changes: Any) -> Any:
    """OpenR's configuration of a call."""
    given = {
        "n": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "max_new_tokens": 9,
        "stop_token_ids": [4],
        "stop_str": SEPARATOR,
        "include_stop_str_in_output": True,
    }
    return SimpleNamespace(**{**given, **changes})


def test_openrs_call() -> None:
    with workers(worker) as (server,), client(server) as lm:
        call: OpenRLM = pickle.loads(pickle.dumps(OpenRLM(lm, lm_step_tag=SEPARATOR)))
        got = call(input_str="question", config=config())
        assert call.lm_step_tag == SEPARATOR
        assert got.text == ["0\n\n", "1\n\n"]
        assert (got.prompt_tokens, got.num_tokens, got.completion_tokens) == (3, [3, 3], 6)
        assert (got.cumulative_logprob, got.logp_avg_by_len) == ([-1.5, -1.5], [-0.5, -0.5])
        assert got.finish_reason == ["stop", "stop"]
        body = server.seen[0].body
        assert {name: body[name] for name in ("prompt", "n", "max_tokens", "top_k", "stop")} == {
            "prompt": "question",
            "n": 2,
            "max_tokens": 9,
            "top_k": 5,
            "stop": [SEPARATOR],
        }
        assert (body["stop_token_ids"], body["include_stop_str_in_output"]) == ([4], True)
        assert call("question", config(max_new_tokens=None)).text == got.text
        assert server.seen[1].body["max_tokens"] == 256


def test_openr_needs_what_only_workers_give() -> None:
    async def answer(request: Request) -> Reply:
        choice = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return Reply({"model": "m", "choices": [choice], "usage": usage})

    with (
        workers(answer) as (server,),
        client(server) as lm,
        pytest.raises(Unsupported, match="no token ids or log-probabilities"),
    ):
        OpenRLM(lm)("question", config(n=1))
