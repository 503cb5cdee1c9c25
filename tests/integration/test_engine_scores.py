"""Log-probabilities of given tokens against transformers' own, and among other requests."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modelworker_server.errors import BadRequest, ContextTooLong, Unavailable
from modelworker_server.workers.base import BaseModelWorker, TokenLogprob
from tests.engine_support import KINDS, config, greedy, load, plain, running, save
from tests.support import eventually

Running = tuple[asyncio.Runner, BaseModelWorker]

TEXTS = ("a", "Hello world", "The quick brown fox jumps over the lazy dog", "x" * 400, "Ü")
TOP = 3


def expected(model: Any, token_ids: Sequence[int]) -> torch.Tensor:
    """The log-probabilities of every token after each one but the last."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(token_ids)])).logits[0, :-1]
    return logits.float().log_softmax(-1)


def same(found: Sequence[TokenLogprob], model: Any, token_ids: Sequence[int], start: int) -> None:
    """Assert that what was found is what transformers says, from `start` on."""
    rows = expected(model, token_ids)[start - 1 :]
    assert [one.token_id for one in found] == list(token_ids[start:])
    own = rows.gather(1, torch.tensor(token_ids[start:])[:, None]).squeeze(1)
    assert [one.logprob for one in found] == pytest.approx(own.tolist(), abs=1e-5, rel=1e-6)
    best = rows.topk(TOP)
    for one, values, row in zip(found, best.values.tolist(), rows, strict=True):
        assert [value for _, value in one.top] == pytest.approx(values, abs=1e-5, rel=1e-6)
        assert [float(row[i]) for i, _ in one.top] == pytest.approx(values, abs=1e-5, rel=1e-6)
        # A rank may differ by tokens that are as likely within rounding.
        assert one.rank is not None
        assert (row > one.logprob + 1e-4).sum() < one.rank <= (row > one.logprob - 1e-4).sum()


async def scored(
    worker: BaseModelWorker, prompts: Sequence[Sequence[int]], start: int = 1
) -> list[tuple[TokenLogprob, ...]]:
    calls = [worker.score_tokens(ids, top=TOP, start=start) for ids in prompts]
    return list(await asyncio.gather(*calls))


@pytest.mark.parametrize("kind", KINDS)
def test_architectures(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, kind)
    model = load(folder)
    for step_tokens in (512, 7):
        monkeypatch.setattr(
            "modelworker_server.workers.model._STEP_TOKENS", {"cpu": step_tokens, "cuda": 0}
        )
        with running(config(folder)) as (runner, worker):
            prompts = [worker.encode(text) for text in TEXTS]
            for ids, found in zip(prompts, runner.run(scored(worker, prompts)), strict=True):
                same(found, model, ids, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Running]:
    with running(config(folder, max_running=4)) as pair:
        yield pair


@pytest.mark.parametrize("start", [1, 2, 30, 399, 400, 401], ids=str)
@pytest.mark.parametrize("logits", [2**25, 264 * 16], ids=["much-memory", "little-memory"])
def test_from_a_position_on(
    tiny: Running, folder: Path, monkeypatch: pytest.MonkeyPatch, start: int, logits: int
) -> None:
    monkeypatch.setattr("modelworker_server.workers.inputs._LOGITS", {"cpu": logits})
    runner, worker = tiny
    ids = worker.encode("0123456789" * 40)
    assert len(ids) == 401
    short = ids[: start + 1]
    for found, given in zip(
        runner.run(scored(worker, [ids, short], start)), (ids, short), strict=True
    ):
        same(found, load(folder), given, start)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"temperature": 0.0}, id="greedy"),
        pytest.param({"temperature": 0.7, "top_p": 0.9, "top_k": 40}, id="sampled"),
        pytest.param({"temperature": 1.3, "repetition_penalty": 1.5}, id="penalised"),
        pytest.param({"presence_penalty": 1.0, "frequency_penalty": 0.5}, id="openai-penalties"),
        pytest.param({"logit_bias": ((20, 3.0), (30, -100.0))}, id="biased"),
    ],
)
@pytest.mark.parametrize("prompt", TEXTS[:3], ids=["short", "middle", "long"])
def test_generated_tokens_get_their_logprobs_again(
    tiny: Running, prompt: str, changes: dict[str, Any]
) -> None:
    runner, worker = tiny
    ids = worker.encode(prompt)
    params = plain(
        60, **{"temperature": 1.0, "n": 2, "seed": 3, "logprobs": TOP, "ignore_eos": True} | changes
    )
    samples = runner.run(worker.generate(ids, params))
    wholes = [[*ids, *sample.token_ids] for sample in samples]
    for sample, found in zip(
        samples, runner.run(scored(worker, wholes, start=len(ids))), strict=True
    ):
        assert sample.logprobs is not None
        assert len(sample.logprobs) == 60
        for mine, again in zip(sample.logprobs, found, strict=True):
            assert again.token_id == mine.token_id
            assert again.logprob == pytest.approx(mine.logprob, abs=1e-4)
            assert [v for _, v in again.top] == pytest.approx([v for _, v in mine.top], abs=1e-4)


def test_scoring_among_other_requests(tiny: Running, folder: Path) -> None:
    runner, worker = tiny
    model = load(folder)
    prompts = [worker.encode(text) for text in TEXTS]

    async def together() -> tuple[Any, ...]:
        return await asyncio.gather(
            worker.generate(prompts[1], plain(40)),
            scored(worker, prompts * 5),
            worker.embed(prompts[:2], pooling="mean", normalize=False),
            worker.generate(prompts[2], plain(40)),
        )

    first, found, vectors, second = runner.run(together())
    assert [list(first[0].token_ids), list(second[0].token_ids)] == [
        greedy(model, prompts[1], 40),
        greedy(model, prompts[2], 40),
    ]
    assert len(vectors) == 2
    for ids, one in zip(prompts * 5, found, strict=True):
        same(one, model, ids, 1)


def test_the_first_token_alone_has_nothing_to_tell(tiny: Running) -> None:
    runner, worker = tiny
    assert runner.run(worker.score_tokens([5], top=1)) == ()
    assert runner.run(worker.score_tokens([5] * 40, top=1, start=40)) == ()


def test_as_many_tokens_as_the_model_takes(tiny: Running) -> None:
    runner, worker = tiny
    assert len(runner.run(worker.score_tokens([5] * 512, top=0))) == 511


def test_more_alternatives_than_tokens_are_all_tokens(tiny: Running) -> None:
    runner, worker = tiny
    (found,) = runner.run(worker.score_tokens([5, 6], top=10**6))
    assert len(found.top) == 264


@pytest.mark.parametrize(
    ("token_ids", "start", "kind", "words"),
    [
        pytest.param([], 1, BadRequest, "number of tokens, 0", id="nothing"),
        pytest.param([5, 6], 0, BadRequest, "from 1", id="start-0"),
        pytest.param([5, 6], -1, BadRequest, "from 1", id="start-negative"),
        pytest.param([5, 6], 3, BadRequest, "got 3", id="start-behind-the-end"),
        pytest.param([5] * 513, 1, ContextTooLong, "maximum context length is 512", id="too-long"),
    ],
)
def test_refused(
    tiny: Running, token_ids: list[int], start: int, kind: type[BadRequest], words: str
) -> None:
    runner, worker = tiny
    with pytest.raises(kind, match=words):
        runner.run(worker.score_tokens(token_ids, top=1, start=start))


def test_cancelling_ends_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelworker_server.workers.model._STEP_TOKENS", {"cpu": 1, "cuda": 1})
    with running(config(folder)) as (runner, worker):

        async def leave() -> None:
            call = asyncio.create_task(worker.score_tokens([5] * 512, top=0))
            await asyncio.to_thread(
                eventually, worker.load_now, until=lambda load: load.waiting == 1, interval=0.01
            )
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await worker.generate([1], plain(2))
            assert worker.load_now().waiting == 0

        runner.run(leave())


def test_numbers_that_are_none_are_an_error(tmp_path: Path) -> None:
    folder = save(tmp_path)
    with running(config(folder)) as (runner, worker):
        model = worker._engine._scheduler._runner._model  # type: ignore[attr-defined]
        with torch.no_grad():
            model.base_model.embed_tokens.weight[77] = torch.nan
        with pytest.raises(Unavailable, match="not a number"):
            runner.run(worker.score_tokens([1, 77, 5], top=1))
        with pytest.raises(Unavailable, match="not a number"):
            runner.run(worker.embed([[1, 77]], pooling="mean", normalize=True))
        assert len(runner.run(worker.score_tokens([1, 5, 6], top=1))) == 2


def test_what_is_told_of_the_tokenizer(tiny: Running) -> None:
    info = tiny[1].tokenizer_info()
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", "<pad>")
    assert info["tokenizer_class"]
    assert info["added_tokens_decoder"]["2"]["content"] == "</s>"
    assert not [name for name, value in info.items() if str(value).startswith("/")]
