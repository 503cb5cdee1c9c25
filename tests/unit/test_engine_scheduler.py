"""The scheduler step by step on a tiny model: order, cancellation, and steps that fail."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import Load, Sample
from modelworker_server.workers.cache import RowCache
from modelworker_server.workers.sequences import Call, Generation
from tests.engine_bench import PROMPTS, Bench, oom
from tests.engine_support import greedy, plain, random_model, tokenizer


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("llama")


def test_staggered_joins_equal_generate(model: Any) -> None:
    bench = Bench(model)
    calls = []
    for prompt in PROMPTS:
        calls.append(bench.ask(prompt, 30))
        bench.step()
        bench.step()
    bench.finish()
    for prompt, call in zip(PROMPTS, calls, strict=True):
        assert bench.tokens(call) == [greedy(model, prompt, 30)]


def test_a_long_prompt_is_read_in_parts_while_others_are_decoded(model: Any) -> None:
    bench = Bench(model, step_tokens=16)
    short = bench.ask([1, 5], 20)
    bench.step()
    long = bench.ask([1, *range(10, 110)], 5)
    done = 0
    while not bench.results[short]:
        bench.step()
        done += 1
    bench.finish()
    assert max(bench.runner.prefilled) == 16
    assert done <= 20
    assert bench.tokens(long) == [greedy(model, [1, *range(10, 110)], 5)]


def test_prompts_are_read_together_up_to_the_limit(model: Any) -> None:
    bench = Bench(model, step_tokens=16, max_running=8)
    for size in (4, 4, 4, 4, 5):
        bench.ask([1] * size, 2)
    bench.finish()
    assert bench.runner.prefilled == [16, 5]


def test_first_come_first_served_within_the_rows(model: Any) -> None:
    bench = Bench(model, max_running=2)
    calls = [bench.ask(prompt, 6, ignore_eos=True) for prompt in PROMPTS]
    assert bench.scheduler.load() == Load(running=0, waiting=5)
    bench.step()
    assert bench.scheduler.load() == Load(running=2, waiting=3)
    order: list[Call] = []
    while not bench.scheduler.idle():
        bench.step()
        order += [call for call in calls if bench.results[call] and call not in order]
    assert order == calls
    assert bench.runner.most_rows == 2


@pytest.mark.parametrize("n", [1, 3, 4, 11], ids=str)
def test_n_samples_share_one_reading(model: Any, n: int) -> None:
    bench = Bench(model, max_running=4)
    call = bench.ask(PROMPTS[1], 8, n=n, temperature=0.8, seed=5, ignore_eos=True)
    bench.finish()
    assert bench.runner.prefilled == [len(PROMPTS[1])]
    found = bench.tokens(call)
    assert len(found) == n
    alone = Bench(model, max_running=16)
    again = alone.ask(PROMPTS[1], 8, n=n, temperature=0.8, seed=5, ignore_eos=True)
    alone.ask(PROMPTS[3], 8, temperature=0.8)
    alone.finish()
    assert alone.tokens(again) == found
    assert len(set(map(tuple, found))) == n


def test_cancelled_rows_leave_at_the_next_step(model: Any) -> None:
    bench = Bench(model)
    gone = bench.ask(PROMPTS[0], 400, ignore_eos=True)
    waiting = [bench.ask(prompt, 400, n=4, ignore_eos=True) for prompt in PROMPTS[1:3]]
    stays = bench.ask(PROMPTS[4], 5)
    bench.step()
    for call in (gone, *waiting):
        call.cancelled = True
    bench.finish(most=8)
    assert bench.results[gone] == []
    assert bench.tokens(stays) == [greedy(model, PROMPTS[4], 5)]


@pytest.mark.parametrize("where", ["prefill", "decode", "decoded"])
@pytest.mark.parametrize("times", [1, 2], ids=str)
def test_out_of_memory_goes_on_with_fewer_rows(model: Any, where: str, times: int) -> None:
    bench = Bench(model, max_running=8, step_tokens=512)
    calls = [bench.ask(prompt, 12) for prompt in PROMPTS[:4]]
    several = bench.ask(PROMPTS[4], 12, n=3, temperature=1.0, seed=3)
    bench.runner.faults[where] = [oom() for _ in range(times)]
    if where != "prefill":
        bench.step()
    bench.finish()
    for prompt, call in zip(PROMPTS, calls, strict=False):
        assert bench.tokens(call) == [greedy(model, prompt, 12)]
    calm = Bench(model)
    same = calm.ask(PROMPTS[4], 12, n=3, temperature=1.0, seed=3)
    calm.finish()
    assert bench.tokens(several) == calm.tokens(same)
    assert bench.scheduler._limit > 1


def test_out_of_memory_on_one_request_alone_fails_it(model: Any) -> None:
    bench = Bench(model)
    call = bench.ask(PROMPTS[0], 10)
    bench.runner.faults["decode"] = [oom()]
    bench.finish()
    (error,) = bench.results[call]
    assert isinstance(error, Unavailable)
    assert "out of memory" in error.message
    after = bench.ask(PROMPTS[0], 10)
    bench.finish()
    assert bench.tokens(after) == [greedy(model, PROMPTS[0], 10)]


@pytest.mark.parametrize("where", ["prefill", "decode", "decoded"])
def test_a_failing_step_fails_its_requests_alone(model: Any, where: str) -> None:
    bench = Bench(model)
    first = bench.ask(PROMPTS[0], 10)
    if where == "prefill":
        bench.step()
    second = bench.ask(PROMPTS[1], 10)
    bench.runner.faults[where] = [RuntimeError("odd shape\nand more")]
    bench.finish()
    after = bench.ask(PROMPTS[2], 10)
    bench.finish()
    failed = [second] if where == "prefill" else [first, second]
    for call in failed:
        (error,) = bench.results[call]
        assert isinstance(error, Unavailable)
        assert "RuntimeError: odd shape" in error.message
        assert "and more" not in error.message
    if where == "prefill":
        assert bench.tokens(first) == [greedy(model, PROMPTS[0], 10)]
    assert bench.tokens(after) == [greedy(model, PROMPTS[2], 10)]


def test_a_lost_device_ends_the_engine(model: Any) -> None:
    bench = Bench(model)
    bench.ask(PROMPTS[0], 10)
    bench.runner.faults["decode"] = [torch.AcceleratorError("illegal memory access", 700)]
    with pytest.raises(torch.AcceleratorError):
        bench.finish()


def test_numbers_that_are_none_fail_one_request(model: Any) -> None:
    bench = Bench(model)
    broken = bench.ask(PROMPTS[0], 10)
    fine = bench.ask(PROMPTS[1], 10)
    original = bench.runner.decode

    def poisoned(token_ids: Sequence[int], cache: RowCache) -> torch.Tensor:
        logits = original(token_ids, cache).clone()
        if len(token_ids) == 2:
            logits[0] = torch.nan
        return logits

    bench.runner.decode = poisoned  # type: ignore[method-assign]
    bench.finish()
    (error,) = bench.results[broken]
    assert "not a number" in str(error)
    assert bench.tokens(fine) == [greedy(model, PROMPTS[1], 10)]


def test_a_stream_has_every_token_once(model: Any) -> None:
    bench = Bench(model)
    call = Generation(PROMPTS[1], plain(20, n=2, logprobs=1), lambda _: None, streaming=True)
    bench.add(call)
    whole = bench.ask(PROMPTS[1], 20, n=2, logprobs=1)
    bench.finish()
    *parts, end = bench.results[call]
    assert end is None
    (samples,) = bench.results[whole]
    for sample in samples:
        mine: list[Sample] = [part for part in parts if part.index == sample.index]
        assert "".join(part.text for part in mine) == sample.text
        assert tuple(t for part in mine for t in part.token_ids) == sample.token_ids
        logprobs = [p.logprob for part in mine for p in part.logprobs or ()]
        assert logprobs == pytest.approx([p.logprob for p in sample.logprobs], abs=1e-4)
        assert [part.finish_reason for part in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1].finish_reason == sample.finish_reason


@pytest.mark.parametrize(
    ("changes", "finish", "stop", "tokens"),
    [
        pytest.param({}, "length", None, 6, id="length"),
        pytest.param({"stop_token_ids": True}, "stop", True, 3, id="stop-id"),
        pytest.param({"eos": True}, "stop", None, 3, id="eos"),
        pytest.param({"eos": True, "ignore_eos": True}, "length", None, 6, id="ignored-eos"),
    ],
)
def test_why_a_sample_ended(
    model: Any, changes: dict[str, Any], finish: str, stop: bool | None, tokens: int
) -> None:
    expected = greedy(model, PROMPTS[0], 6, eos_token_id=-1)
    ending = expected[2]
    assert ending not in expected[:2]
    bench = Bench(model)
    if changes.get("eos"):
        bench.scheduler._eos_ids = frozenset({ending})
    options: dict[str, Any] = {"ignore_eos": changes.get("ignore_eos", False)}
    if changes.get("stop_token_ids"):
        options["stop_token_ids"] = frozenset({ending})
    call = bench.ask(PROMPTS[0], 6, **options)
    bench.finish()
    ((sample,),) = bench.results[call]
    assert list(sample.token_ids) == expected[:tokens]
    assert sample.finish_reason == finish
    assert sample.stop_reason == (ending if stop else None)
    decode: Callable[..., str] = tokenizer().backend_tokenizer.decode
    shown = expected[: tokens - 1] if finish == "stop" else expected[:tokens]
    whole = decode([*PROMPTS[0], *shown])
    assert sample.text == whole[len(decode(PROMPTS[0])) :]
