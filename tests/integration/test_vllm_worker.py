"""A language model on a real vLLM engine, behind our door and in our words."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("vllm")

from modelworker_api import wire
from modelworker_server.errors import BadRequest, ContextTooLong
from modelworker_server.workers.base import Message, SamplingParams
from tests.support import eventually
from tests.vllm_support import smollm2_folder, write_adapter
from tests.vllm_world import (
    BAD_INPUTS,
    COMPLETIONS,
    PROMPT,
    TOKEN,
    World,
    random_request,
    running_world,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = smollm2_folder(tmp_path_factory.mktemp("volume") / "smollm2")
    with running_world(folder) as world:
        yield world


# --- the worker's own methods --------------------------------------------------------


def test_it_knows_what_it_serves(world: World) -> None:
    info = world.worker.info
    assert (info.name, info.aliases, info.root) == ("policy", {"lab/policy"}, str(world.folder))
    assert (info.dtype, info.max_model_len, info.vocab_size) == ("float32", 1024, 49152)
    assert info.revision.startswith("sha256:")
    assert world.worker.alive()


def test_generate_tells_tokens_logprobs_and_the_end(world: World) -> None:
    (sample,) = world.generate(logprobs=2)
    assert sample.text.startswith(" Paris")
    assert sample.text == world.worker.decode(sample.token_ids)
    assert (sample.finish_reason, sample.stop_reason) == ("length", None)
    assert sample.logprobs is not None
    assert [one.token_id for one in sample.logprobs] == list(sample.token_ids)
    for one in sample.logprobs:
        assert one.top[0] == (one.token_id, one.logprob)
        assert (len(one.top), one.rank) == (2, 1)
        assert one.top[1][1] < one.logprob < 0


@pytest.mark.parametrize("include", [False, True], ids=["dropped", "kept"])
def test_a_stop_string_ends_a_sample(world: World, include: bool) -> None:
    (whole,) = world.generate()
    (sample,) = world.generate(stop=(".\n",), include_stop_str_in_output=include)
    assert sample.text == (" Paris.\n" if include else " Paris")
    assert (sample.finish_reason, sample.stop_reason) == ("stop", ".\n")
    # The tokens hold the stop string either way.
    assert sample.token_ids == whole.token_ids[: len(sample.token_ids)]
    assert world.worker.decode(sample.token_ids).startswith(" Paris.\n")


def test_a_stop_id_ends_a_sample(world: World) -> None:
    (whole,) = world.generate()
    stop = whole.token_ids[2]
    (sample,) = world.generate(stop_token_ids=frozenset({stop}))
    assert (sample.finish_reason, sample.stop_reason) == ("stop", stop)


def test_n_samples_come_in_order_and_a_seed_repeats_them(world: World) -> None:
    wanted: dict[str, Any] = {"n": 8, "temperature": 1.0, "seed": 3}
    samples = world.generate(**wanted)
    assert [one.index for one in samples] == list(range(8))
    assert len({one.token_ids for one in samples}) > 4
    assert [one.token_ids for one in world.generate(**wanted)] == [one.token_ids for one in samples]


def test_a_stream_adds_up_to_the_whole(world: World) -> None:
    wanted: dict[str, Any] = {"n": 3, "temperature": 0.7, "seed": 5, "logprobs": 0}
    whole = world.generate(**wanted)
    parts = world.stream(**wanted)
    assert len(parts) > 3
    for expected in whole:
        mine = [part for part in parts if part.index == expected.index]
        assert "".join(part.text for part in mine) == expected.text
        assert tuple(i for part in mine for i in part.token_ids) == expected.token_ids
        assert len([1 for part in mine for _ in part.logprobs or ()]) == len(expected.token_ids)
        reasons = [part.finish_reason for part in mine]
        assert (reasons[-1], set(reasons[:-1])) == (expected.finish_reason, {None})


def test_given_tokens_are_scored(world: World) -> None:
    (sample,) = world.generate(logprobs=1)
    ids = [*world.worker.encode(PROMPT), *sample.token_ids]
    start = len(ids) - len(sample.token_ids)
    scored = world.loop.run(world.worker.score_tokens(ids, top=1, start=start))
    assert sample.logprobs is not None
    assert [one.token_id for one in scored] == list(sample.token_ids)
    assert [one.logprob for one in scored] == pytest.approx(
        [one.logprob for one in sample.logprobs], abs=1e-3
    )


@pytest.mark.parametrize(
    ("params", "error"),
    [
        pytest.param({"max_tokens": 1024}, ContextTooLong, id="too-long"),
        pytest.param({"logprobs": 21}, BadRequest, id="logprobs-over-the-limit"),
        pytest.param({"prompt": ""}, BadRequest, id="no-prompt"),
        pytest.param({"logit_bias": ((10**6, 1.0),)}, BadRequest, id="unknown-token"),
    ],
)
def test_what_the_engine_refuses_is_a_bad_request(
    world: World, params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        world.generate(**params)


def test_a_cancelled_call_ends_on_the_engine(world: World) -> None:
    async def cancelled() -> list[int]:
        params = SamplingParams(max_tokens=900, n=4, ignore_eos=True)
        call = asyncio.create_task(world.worker.generate([1, 2], params))
        while world.worker.load_now().running < 1:  # noqa: ASYNC110 - nobody tells it
            await asyncio.sleep(0.02)
        assert world.worker.load_now().kv_usage is not None
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        load = world.worker.load_now()
        return [load.running, load.waiting, load.kv_usage]

    assert world.loop.run(cancelled()) == [0, 0, 0]


def test_the_answers_are_those_of_vllm_itself(world: World) -> None:
    """50 random requests, by this worker, by the engine alone, and by its own API."""
    from vllm import SamplingParams as EngineParams
    from vllm.sampling_params import RequestOutputKind

    chance = random.Random(7)
    reasons: Counter[str | None] = Counter()
    for number in range(50):
        prompt, wanted, stop = random_request(chance, number)
        ids = world.worker.encode(prompt)
        (ours,) = world.generate(prompt, **wanted, stop=stop)
        params = EngineParams(**wanted, stop=list(stop), output_kind=RequestOutputKind.FINAL_ONLY)

        theirs = world.alone(ids, params)
        choice = world.post(
            COMPLETIONS, prompt=ids, **wanted, stop=list(stop), return_token_ids=True
        )["choices"][0]
        assert ours.logprobs is not None
        total = sum(one.logprob for one in ours.logprobs)
        assert list(ours.token_ids) == list(theirs.token_ids) == choice["token_ids"]
        assert total == pytest.approx(theirs.cumulative_logprob, abs=1e-3)
        assert total == pytest.approx(sum(choice["logprobs"]["token_logprobs"]), abs=1e-3)
        assert ours.text == theirs.text == choice["text"]
        assert ours.finish_reason == theirs.finish_reason == choice["finish_reason"]
        assert ours.stop_reason == theirs.stop_reason == choice["stop_reason"]
        reasons[ours.finish_reason] += 1
    assert min(reasons["stop"], reasons["length"]) >= 5


# --- the engine's API ----------------------------------------------------------------


def test_the_openai_package_talks_to_it(world: World) -> None:
    client = openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["policy", "lab/policy"]
    answer = client.completions.create(model="policy", prompt=PROMPT, max_tokens=4, temperature=0)
    assert answer.choices[0].text == " Paris.\n\n"
    chat = client.chat.completions.create(
        model="lab/policy", messages=[{"role": "user", "content": "hi"}], max_tokens=4, n=8
    )
    assert len(chat.choices) == 8
    parts = client.chat.completions.create(
        model="policy", messages=[{"role": "user", "content": "hi"}], max_tokens=4, stream=True
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts)
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="nope", prompt="x")
    assert missing.value.type == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="policy", prompt="x " * 2000)
    assert long.value.type == "context_length_exceeded"
    assert "maximum context length" in long.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="policy", prompt="x", top_p=7)
    assert (wrong.value.param, wrong.value.code) == ("top_p", "400")


def test_token_routes_are_open(world: World) -> None:
    ids = world.post("/tokenize", prompt=PROMPT)["tokens"]
    assert ids == world.worker.encode(PROMPT)
    assert world.post("/detokenize", tokens=ids)["prompt"] == PROMPT
    info = world.client.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>"
    params = {"max_tokens": 4, "n": 8, "logprobs": 1, "seed": 1}
    answer = world.post("/inference/v1/generate", token_ids=ids, sampling_params=params)
    assert [choice["index"] for choice in answer["choices"]] == list(range(8))
    for choice in answer["choices"]:
        assert len(choice["logprobs"]["content"]) == len(choice["token_ids"])


@pytest.mark.parametrize("content", ["step 1\n\n", " a", "one\n\ntwo\n\n"], ids=repr)
def test_prefill_of_a_trimming_template_keeps_the_separator(world: World, content: str) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]
    with world.trimming_template():
        answer = world.post(
            "/v1/chat/completions",
            messages=messages,
            continue_final_message=True,
            add_generation_prompt=False,
            max_tokens=1,
            return_token_ids=True,
        )
        expected = world.worker.encode_chat(
            [Message(one["role"], one["content"]) for one in messages], continue_final_message=True
        )
    assert answer["prompt_token_ids"] == expected
    assert world.worker.decode(expected).endswith("<|im_start|>assistant\n" + content)


@pytest.mark.parametrize(("path", "body", "words"), BAD_INPUTS)
def test_bad_input_is_refused_with_a_reason(
    world: World, path: str, body: bytes, words: str
) -> None:
    headers = {"content-type": "application/json"}
    response = world.client.post(path, content=body, headers=headers)
    error = wire.ErrorResponse.model_validate_json(response.content)
    assert 400 <= response.status_code < 500, response.text
    assert words.lower() in error.message.lower()
    assert "Traceback" not in error.message
    assert "site-packages" not in error.message


def test_an_embedding_route_of_a_language_model_is_missing(world: World) -> None:
    assert "/v1/embeddings" in world.post("/v1/embeddings", 404, input="x")["message"]
    assert world.post("/v1/rewards", 501, inputs=[{"question": "q", "steps": ["a"]}])


def test_development_routes_need_the_token_and_leave_it_ready(world: World) -> None:
    assert world.client.post("/pause").status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert world.client.post("/pause", headers=headers).json() == {"status": "paused"}
    assert world.client.get("/readyz").status_code == 200
    assert world.client.post("/resume", headers=headers).status_code == 200
    assert world.client.post("/collective_rpc", headers=headers).status_code == 404
    assert world.generate()


def test_metrics_are_ours_and_the_engines(world: World) -> None:
    world.post(COMPLETIONS, prompt=PROMPT, max_tokens=1)
    text = world.client.get("/metrics").text
    assert 'modelworker_requests_total{code="200",route="/v1/completions"}' in text
    assert "vllm:num_requests_running" in text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"stream": True}, id="stream"),
        pytest.param({"stream": False}, id="whole"),
        pytest.param({"stream": True, "n": 4}, id="samples"),
    ],
)
def test_a_client_that_leaves_frees_the_engine(world: World, body: dict[str, Any]) -> None:
    with world.asking({"max_tokens": 900, "ignore_eos": True, **body}):
        eventually(world.load, until=lambda load: load[0] == "1", what="running", interval=0.05)
    eventually(
        world.load, until=lambda load: load[:2] == ["0", "0"], timeout=1, what="idle", interval=0.05
    )
    eventually(
        lambda: world.client.get("/metrics").text,
        until=lambda text: (
            f'modelworker_requests_total{{code="499",route="{COMPLETIONS}"}}' in text
        ),
        what="count",
    )


def test_200_requests_over_a_small_limit(world: World) -> None:
    limiter = world.state.limiter

    async def narrow(running: int, queued: int) -> None:
        limiter._max_running, limiter._max_queued = running, queued

    def ask(number: int) -> httpx.Response:
        body = {"model": "policy", "prompt": f"Number {number}", "max_tokens": 4}
        return httpx.post(f"{world.url}{COMPLETIONS}", json=body, timeout=120)

    world.loop.run(narrow(4, 8))
    try:
        with ThreadPoolExecutor(200) as threads:
            answers = list(threads.map(ask, range(200)))
    finally:
        world.loop.run(narrow(16, 240))
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) == {200, 429}
    assert codes[200] >= 12
    assert all(int(one.headers["retry-after"]) >= 1 for one in answers if one.status_code == 429)
    assert world.load()[:2] == ["0", "0"]


# --- adapters ------------------------------------------------------------------------


def test_adapters_come_change_and_go(world: World) -> None:
    volume = world.folder.parent / "adapters"
    first = write_adapter(volume / "first", seed=1)
    second = write_adapter(volume / "second", seed=2)
    wide = write_adapter(volume / "wide", seed=3, rank=16)

    want, text = world.want, world.text
    plain = text("policy")
    assert want(math=first, wide=wide) == {"math": "Loaded", "wide": "Failed"}
    assert "rank" in world.worker.adapters[1].message
    cards = {card["id"]: card for card in world.client.get("/v1/models").json()["data"]}
    assert cards["math"]["parent"] == "policy"
    assert "wide" not in cards
    by_first = text("math")
    assert want(math=second, code=first) == {"math": "Loaded", "code": "Loaded"}
    assert text("code") == by_first
    assert text("policy") == plain
    assert len({plain, by_first, text("math")}) == 3
    assert world.state.heartbeat().adapters[0].location == str(second)
    assert want() == {}
    assert text("math", 404) == "model_not_found"
