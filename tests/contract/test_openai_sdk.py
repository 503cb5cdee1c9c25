"""The OpenAI SDK, unmodified, against the worker's HTTP face on a loopback socket."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from modelworker_api import wire
from tests.fake_worker import FakeWorker, text_of
from tests.server_support import Running, running_server

MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT_TEXT = text_of("user:hi", 0, 6)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(FakeWorker()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    assert client.models.list().data[0].id == "policy"


def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="policy", prompt=["ab", "c"], max_tokens=5, n=2, logprobs=1
    )
    assert [choice.text for choice in answer.choices] == [
        text_of(prompt, index, 5) for prompt in ("ab", "c") for index in range(2)
    ]
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == list(text_of("ab", 0, 5))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


@pytest.mark.parametrize("tokens", [0, 2], ids=str)
def test_an_echo_with_logprobs(client: openai.OpenAI, tokens: int) -> None:
    answer = client.completions.create(
        model="policy", prompt="abc", max_tokens=tokens, echo=True, logprobs=2
    )
    (choice,) = answer.choices
    assert choice.text == "abc" + text_of("abc", 0, tokens)
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.tokens == list(choice.text)
    assert logprobs.text_offset == list(range(3 + tokens))
    assert logprobs.token_logprobs[:3] == [None, -0.25, -0.5]
    streamed = client.completions.create(
        model="policy", prompt="abc", max_tokens=tokens, echo=True, logprobs=2, stream=True
    )
    parts = [chunk.choices[0] for chunk in streamed]
    assert "".join(part.text for part in parts) == choice.text
    found = [value for part in parts if part.logprobs for value in part.logprobs.tokens or ()]
    assert found == logprobs.tokens


def test_prompt_logprobs(client: openai.OpenAI) -> None:
    extra = {"prompt_logprobs": 1}
    completion = client.completions.create(
        model="policy", prompt="ab", max_tokens=1, extra_body=extra
    )
    assert completion.choices[0].model_extra is not None
    listed = completion.choices[0].model_extra["prompt_logprobs"]
    assert listed[0] is None
    assert list(listed[1]) == ["98", "65"]
    assert listed[1]["98"] == {"logprob": -0.25, "rank": 1, "decoded_token": "b"}
    chat = client.chat.completions.create(
        model="policy", messages=MESSAGES, max_tokens=1, extra_body=extra
    )
    assert chat.model_extra is not None
    assert len(chat.model_extra["prompt_logprobs"]) == len("user:hi")


def test_penalties_and_bias_reach_the_worker(client: openai.OpenAI, server: Running) -> None:
    client.completions.create(
        model="policy",
        prompt="a",
        max_tokens=1,
        presence_penalty=0.5,
        frequency_penalty=-1.5,
        logit_bias={"65": -100, "66": 3},
    )
    params = server.worker.seen[-1]
    assert (params.presence_penalty, params.frequency_penalty) == (0.5, -1.5)
    assert params.logit_bias == ((65, -100.0), (66, 3.0))


def test_completion_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(
            model="policy",
            prompt="ab",
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == text_of("ab", 0, 5)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="policy",
        messages=MESSAGES,
        max_completion_tokens=6,
        logprobs=True,
        top_logprobs=2,
        temperature=0.5,
        extra_body={"top_k": 5, "return_token_ids": True},
    )
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", CHAT_TEXT)
    assert choice.finish_reason == "length"
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [len(token.top_logprobs) for token in choice.logprobs.content] == [2] * 6
    assert answer.model_extra is not None
    assert answer.model_extra["prompt_token_ids"] == list(b"user:hi")


def test_chat_stream() -> None:
    worker = FakeWorker()
    worker.finish_reason = "stop"
    with running_server(worker) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        with client.chat.completions.stream(
            model="policy",
            messages=MESSAGES,
            max_tokens=6,
            stream_options={"include_usage": True},
        ) as stream:
            final = stream.get_final_completion()
    assert final.choices[0].message.content == CHAT_TEXT
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens == 6


def test_the_async_client_with_many_calls_at_once(server: Running) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:

            async def one(prompt: str) -> str:
                stream = await client.completions.create(
                    model="policy", prompt=prompt, max_tokens=4, stream=True
                )
                return "".join([c.choices[0].text async for c in stream])

            return await asyncio.gather(*(one(f"p{i}") for i in range(8)))

    assert asyncio.run(run()) == [text_of(f"p{i}", 0, 4) for i in range(8)]


def test_embeddings_which_the_sdk_asks_for_in_base64(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="policy", input=["abc", "d"])
    assert [entry.embedding for entry in answer.data] == [[3.0, 0.5, 1.0], [1.0, 0.5, 1.0]]


def test_the_fingerprint_is_in_the_raw_response(client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(model="policy", prompt="a", max_tokens=1)
    assert [raw.headers[name] for name in wire.FINGERPRINT_HEADERS] == [
        "policy-0",
        "rev-1",
        "float32",
    ]


def test_an_unknown_model_is_the_sdks_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="served are: lab/policy, org/policy-1b, policy"):
        client.completions.create(model="gpt-4", prompt="a")


def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    worker = FakeWorker()
    worker.fail_at = 2
    with running_server(worker) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        chunks = client.completions.create(model="policy", prompt="a", max_tokens=5, stream=True)
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="the engine stumbled"):
            seen.extend(chunk.choices[0].text for chunk in chunks)
        assert "".join(seen) == text_of("a", 0, 2)


def test_a_full_queue_is_retried_by_the_sdk_until_it_is_taken() -> None:
    worker = FakeWorker()
    worker.step = lambda: asyncio.sleep(0.05)
    with running_server(worker, max_running=1, max_queued=0) as server:

        async def run() -> list[str]:
            async with openai.AsyncOpenAI(
                base_url=f"{server.url}/v1", api_key="none", max_retries=5
            ) as client:
                calls = [
                    client.completions.create(model="policy", prompt=f"p{i}", max_tokens=4)
                    for i in range(2)
                ]
                return [answer.choices[0].text for answer in await asyncio.gather(*calls)]

        assert asyncio.run(run()) == [text_of(f"p{i}", 0, 4) for i in range(2)]
        metrics = server.state.metrics.exposition().decode()
        assert 'modelworker_requests_total{code="429",route="/v1/completions"}' in metrics
