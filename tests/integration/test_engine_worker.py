"""What callers of the worker see: streams, cancellation, chat, embeddings, refusals, the end."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from modelworker_server.errors import BadRequest, ContextTooLong, Unavailable
from modelworker_server.workers.base import BaseModelWorker, Load, Message, Sample
from modelworker_server.workers.model import ModelWorker
from modelworker_server.workers.tokens import Tokens
from tests.engine_support import config, load, plain, running, save, tokenizer
from tests.support import eventually

Running = tuple[asyncio.Runner, BaseModelWorker]

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Running]:
    with running(config(folder, max_running=4)) as pair:
        yield pair


async def parts_of(worker: BaseModelWorker, prompt: list[int], **changes: Any) -> list[Sample]:
    return [part async for part in worker.stream(prompt, plain(40, ignore_eos=True, **changes))]


async def idle(worker: BaseModelWorker) -> None:
    """Wait until the engine has nothing left to do."""
    await asyncio.to_thread(
        eventually, worker.load_now, until=lambda load: load == Load(), timeout=10, interval=0.01
    )


@pytest.mark.parametrize("n", [1, 3], ids=str)
def test_a_stream_makes_the_same_text(tiny: Running, n: int) -> None:
    runner, worker = tiny
    prompt = worker.encode(PROMPT)
    options: dict[str, Any] = {"n": n, "seed": 4, "temperature": 0.9, "top_p": 0.9}
    parts = runner.run(parts_of(worker, prompt, **options))
    whole = runner.run(worker.generate(prompt, plain(40, ignore_eos=True, **options)))
    assert [sample.index for sample in whole] == list(range(n))
    for sample in whole:
        mine = [part for part in parts if part.index == sample.index]
        assert "".join(part.text for part in mine) == sample.text
        assert sum((part.token_ids for part in mine), ()) == sample.token_ids
        assert all(part.text for part in mine[:-1])
        assert mine[-1].finish_reason == sample.finish_reason == "length"


def test_a_stop_string_of_the_output(tiny: Running) -> None:
    runner, worker = tiny
    prompt = worker.encode(PROMPT)
    (free,) = runner.run(worker.generate(prompt, plain(40, ignore_eos=True)))
    stop = free.text[10:13]
    at = free.text.index(stop)
    for include in (False, True):
        params = plain(40, ignore_eos=True, stop=(stop,), include_stop_str_in_output=include)
        (sample,) = runner.run(worker.generate(prompt, params))
        assert sample.text == free.text[: at + (len(stop) if include else 0)]
        assert (sample.finish_reason, sample.stop_reason) == ("stop", stop)
        assert sample.token_ids == free.token_ids[: len(sample.token_ids)]


def test_leaving_a_stream_ends_its_work(tiny: Running) -> None:
    runner, worker = tiny

    async def leave() -> None:
        prompt = worker.encode(PROMPT)
        parts = worker.stream(prompt, plain(400, ignore_eos=True))
        await anext(parts)
        assert worker.load_now() == Load(running=1)
        await parts.aclose()  # type: ignore[attr-defined] # an async generator
        call = asyncio.create_task(worker.generate(prompt, plain(400, n=9, ignore_eos=True)))
        await anext(worker.stream(prompt, plain(1)))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await idle(worker)

    runner.run(leave())


def test_a_stream_that_was_never_read_costs_nothing(tiny: Running) -> None:
    runner, worker = tiny
    worker.stream(worker.encode(PROMPT), plain(10))

    async def load_now() -> Load:
        return worker.load_now()

    assert runner.run(load_now()) == Load()


def test_logprobs(tiny: Running, folder: Path) -> None:
    runner, worker = tiny
    prompt = worker.encode(PROMPT)
    params = plain(5, logprobs=3, temperature=0.7, repetition_penalty=1.5, seed=2)
    (sample,) = runner.run(worker.generate(prompt, params))
    ids = torch.tensor([[*prompt, *sample.token_ids]])
    raw = load(folder)(ids).logits[0].log_softmax(-1).detach()
    assert sample.logprobs is not None
    for place, found in enumerate(sample.logprobs):
        expected = raw[len(prompt) - 1 + place]
        assert found.token_id == sample.token_ids[place]
        assert found.logprob == pytest.approx(float(expected[found.token_id]), abs=1e-4)
        assert [token for token, _ in found.top] == expected.topk(3).indices.tolist()


@pytest.mark.parametrize(
    ("prompt", "tokens", "kind", "words"),
    [
        pytest.param([], 5, BadRequest, "empty", id="empty-prompt"),
        pytest.param([5] * 500, 13, ContextTooLong, "513", id="prompt-and-answer-too-long"),
        pytest.param([5] * 600, 1, ContextTooLong, "600", id="prompt-too-long"),
    ],
)
def test_refused_prompts(
    tiny: Running, prompt: list[int], tokens: int, kind: type[BadRequest], words: str
) -> None:
    runner, worker = tiny
    with pytest.raises(kind) as caught:
        runner.run(worker.generate(prompt, plain(tokens)))
    assert words in caught.value.message
    if kind is ContextTooLong:
        assert "maximum context length is 512 tokens" in caught.value.message
    with pytest.raises(kind):
        worker.stream(prompt, plain(tokens))


def test_the_longest_prompt_fits(tiny: Running) -> None:
    runner, worker = tiny
    (sample,) = runner.run(worker.generate([5] * 500, plain(12, ignore_eos=True)))
    assert len(sample.token_ids) == 12


# --- embeddings ----------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalised"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings(tiny: Running, folder: Path, pooling: str, normalize: bool) -> None:
    runner, worker = tiny
    inputs = [worker.encode(text) for text in ("a", PROMPT, "x" * 300, "")]
    found = runner.run(worker.embed(inputs, pooling=pooling, normalize=normalize))
    model = load(folder).model
    for tokens, vector in zip(inputs, found, strict=True):
        with torch.inference_mode():
            states = model(torch.tensor([tokens])).last_hidden_state[0]
        expected = states[-1] if pooling == "last" else states.mean(0)
        if normalize:
            expected = expected / expected.norm()
        assert vector == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        pytest.param([[1], []], BadRequest, "input 1 is empty", id="empty"),
        pytest.param([[1], [5] * 513], ContextTooLong, "maximum context length", id="too-long"),
    ],
)
def test_refused_embeddings(
    tiny: Running, inputs: list[list[int]], kind: type[BadRequest], words: str
) -> None:
    runner, worker = tiny
    with pytest.raises(kind, match=words):
        runner.run(worker.embed(inputs, pooling="mean", normalize=True))
    assert runner.run(worker.embed([], pooling="mean", normalize=True)) == []


# --- tokens --------------------------------------------------------------------------


def messages(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role, content) for role, content in pairs]


def test_chat_equals_the_tokenizers(tiny: Running) -> None:
    _, worker = tiny
    chat = messages(("user", "hi"), ("assistant", "yes"), ("user", "why?"))
    plain_chat = [{"role": m.role, "content": m.content} for m in chat]
    for generation in (False, True):
        found = worker.encode_chat(chat, add_generation_prompt=generation)
        expected = tokenizer().apply_chat_template(
            plain_chat, add_generation_prompt=generation, return_dict=False
        )
        assert found == expected
        assert found.count(1) == 1


def test_a_continued_message_keeps_its_separator(tiny: Running) -> None:
    _, worker = tiny
    chat = messages(("user", "hi"), ("assistant", "step one\n\n"))
    found = worker.encode_chat(chat, continue_final_message=True)
    head = worker.encode_chat(chat[:1], add_generation_prompt=True)
    assert found == head + worker.encode("step one\n\n", add_special_tokens=False)
    assert worker.decode(found).endswith("<assistant>step one\n\n")


@pytest.mark.parametrize(
    ("text", "special", "expected"),
    [
        pytest.param("a", True, "<s>a", id="bos-added"),
        pytest.param("<s>a", True, "<s>a", id="bos-not-doubled"),
        pytest.param("<s><s>a", True, "<s><s>a", id="two-that-the-caller-wrote"),
        pytest.param("a", False, "a", id="no-bos-wanted"),
        pytest.param("<s>a", False, "<s>a", id="bos-in-the-text"),
    ],
)
def test_bos_once(tiny: Running, text: str, special: bool, expected: str) -> None:
    _, worker = tiny
    assert worker.decode(worker.encode(text, add_special_tokens=special)) == expected


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda w: w.encode("a\ud800"), "surrogate", id="lone-surrogate"),
        pytest.param(lambda w: w.decode([-1]), "out of range", id="negative-id"),
        pytest.param(lambda w: w.encode_chat([]), "at least one message", id="no-messages"),
        pytest.param(
            lambda w: w.encode_chat(messages(("user", "x")), continue_final_message=True),
            "role assistant",
            id="continue-a-user",
        ),
        pytest.param(
            lambda w: w.encode_chat(messages(("assistant", "x")), continue_final_message=True),
            "a message before",
            id="continue-nothing",
        ),
    ],
)
def test_refused_texts(
    tiny: Running, call: Callable[[BaseModelWorker], object], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        call(tiny[1])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        pytest.param(None, "no chat template", id="none"),
        pytest.param(
            "{{ raise_exception('roles must alternate') }}", "must alternate", id="raises"
        ),
        pytest.param("{{ messages[0].content.nope() }}", "refuses", id="undefined"),
        pytest.param("{{ messages[0] + 1 }}", "refuses", id="type-error"),
        pytest.param("{% if %}", "refuses", id="syntax"),
        pytest.param("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses", id="sandbox"),
    ],
)
def test_templates_that_refuse(folder: Path, template: str | None, words: str) -> None:
    tokens = Tokens(tokenizer(chat_template=template))
    with pytest.raises(BadRequest, match=words):
        tokens.encode_chat(
            messages(("user", "x")), add_generation_prompt=True, continue_final_message=False
        )
    assert tokens.template() == template


def test_token_text_keeps_its_space(folder: Path) -> None:
    tokens = Tokens(AutoTokenizer.from_pretrained(folder))
    (space,) = tokens.encode(" ", add_special_tokens=False)
    assert tokens.text_of(space) == " "
    assert tokens.text_of(2) == "</s>"


def test_conversation_template(tiny: Running) -> None:
    template = tiny[1].conversation_template()
    assert template is not None
    assert "<assistant>" in template
    assert tiny[1].count_tokens("abc") == 4


# --- the end -------------------------------------------------------------------------


def test_close_ends_what_is_under_way(folder: Path) -> None:
    async def run() -> None:
        worker = ModelWorker(config(folder))
        await worker.load(lambda *_: None)
        prompt = worker.encode(PROMPT)
        call = asyncio.create_task(worker.generate(prompt, plain(400, ignore_eos=True)))
        parts = worker.stream(prompt, plain(400, ignore_eos=True))
        await anext(parts)
        await worker.close()
        with pytest.raises(Unavailable, match="shutting down"):
            await call
        with pytest.raises(Unavailable):
            async for _ in parts:
                pass
        assert not worker.alive()
        with pytest.raises(Unavailable):
            await worker.generate(prompt, plain(1))

    asyncio.run(run())


def test_a_dead_engine_says_so(folder: Path) -> None:
    async def run() -> None:
        worker = ModelWorker(config(folder))
        await worker.load(lambda *_: None)
        assert worker.alive()
        assert worker._engine is not None

        def broken() -> None:
            raise torch.AcceleratorError("device lost", 700)

        worker._engine._scheduler.step = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="engine died"):
            await worker.generate([1], plain(1))
        assert not worker.alive()
        with pytest.raises(Unavailable, match="engine died"):
            await worker.embed([[1]], pooling="mean", normalize=True)
        await worker.close()

    asyncio.run(run())
