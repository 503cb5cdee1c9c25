"""Inputs that are read and not continued, step by step: parts, batches, and passes that fail."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import Load, TokenLogprob
from modelworker_server.workers.inputs import Embedding, InputCall, Scoring
from modelworker_server.workers.sampling import logprobs_of
from tests.engine_bench import PROMPTS, Bench, oom
from tests.engine_support import greedy, random_model

LONG = [1, *range(10, 110)]


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("llama")


def embedding(inputs: Sequence[Sequence[int]]) -> Embedding:
    return Embedding(inputs, lambda _: None, pooling="mean", normalize=False)


def scoring(token_ids: Sequence[int], start: int = 1) -> Scoring:
    return Scoring(token_ids, lambda _: None, top=2, start=start)


def check_embedding(model: Any, inputs: Sequence[Sequence[int]], result: Any) -> None:
    for tokens, vector in zip(inputs, result, strict=True):
        states = model.base_model(torch.tensor([tokens])).last_hidden_state[0]
        assert vector == pytest.approx(states.mean(0).tolist(), abs=1e-4)


def check_scores(model: Any, token_ids: Sequence[int], results: list[Any], start: int = 1) -> None:
    (result,) = results
    rows = model(torch.tensor([token_ids])).logits[0].log_softmax(-1).detach()
    expected = [float(rows[i - 1, token_ids[i]]) for i in range(start, len(token_ids))]
    assert [one.logprob for one in result] == pytest.approx(expected, abs=1e-5)


def test_they_run_between_decode_steps(model: Any) -> None:
    bench = Bench(model, step_tokens=30)
    text = bench.ask(PROMPTS[0], 10)
    embeddings = [embedding(PROMPTS), embedding(PROMPTS[:1])]
    scorings = [scoring(prompt) for prompt in PROMPTS]
    for call in (embeddings[0], *scorings, embeddings[1]):
        bench.add(call)
    bench.finish()
    assert bench.tokens(text) == [greedy(model, PROMPTS[0], 10)]
    for embedded, inputs in zip(embeddings, (PROMPTS, PROMPTS[:1]), strict=True):
        check_embedding(model, inputs, *bench.results[embedded])
    for scored, prompt in zip(scorings, PROMPTS, strict=True):
        check_scores(model, prompt, bench.results[scored])


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        pytest.param(lambda: embedding([LONG]), [16] * 6 + [5], id="embedding"),
        pytest.param(lambda: scoring(LONG), [16] * 6 + [4], id="scoring"),
    ],
)
def test_long_ones_are_read_in_parts_while_others_are_decoded(
    model: Any, call: Callable[[], InputCall], parts: list[int]
) -> None:
    bench = Bench(model, step_tokens=16)
    short = bench.ask([1, 5], 7, ignore_eos=True)
    long = call()
    bench.add(long)
    steps = 0
    while not bench.results[short]:
        bench.step()
        steps += 1
    assert steps == 6, "one token each step, and two in the first"
    bench.finish()
    assert bench.runner.read == parts
    if isinstance(long, Scoring):
        check_scores(model, LONG, bench.results[long])
    else:
        check_embedding(model, [LONG], *bench.results[long])


def test_few_wanted_positions_of_a_long_input_take_few_logits(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelworker_server.workers.inputs._LOGITS", {"cpu": 264 * 4})
    bench = Bench(model, step_tokens=64)
    call = scoring(LONG, start=90)
    bench.add(call)
    bench.finish()
    assert bench.runner.read == [64, 29, 4, 3], "to the first wanted position, then 4 at once"
    check_scores(model, LONG, bench.results[call], start=90)


def test_those_of_one_kind_are_read_together_in_order(model: Any) -> None:
    bench = Bench(model, step_tokens=16)
    for call in (scoring([1] * 5), scoring([1] * 5), embedding([[1] * 4] * 5), scoring([1] * 6)):
        bench.add(call)
    assert bench.scheduler.load() == Load(waiting=4)
    bench.finish()
    assert bench.runner.read == [8, 16, 4, 5]


@pytest.mark.parametrize(
    ("faults", "fails"),
    [
        pytest.param([oom()], False, id="out-of-memory-then-smaller-batches"),
        pytest.param([oom() for _ in range(20)], True, id="out-of-memory-alone"),
        pytest.param([RuntimeError("bad")], True, id="other"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: embedding([*PROMPTS, LONG]), id="embedding"),
        pytest.param(lambda: scoring(LONG), id="scoring"),
    ],
)
def test_passes_that_fail(
    model: Any, call: Callable[[], InputCall], faults: list[BaseException], fails: bool
) -> None:
    bench = Bench(model)
    text = bench.ask(PROMPTS[0], 10)
    bench.step()
    bench.runner.faults["read"] = list(faults)
    asked = call()
    bench.add(asked)
    bench.finish()
    (result,) = bench.results[asked]
    assert isinstance(result, Unavailable) == fails
    bench.runner.faults.clear()
    after = scoring(LONG)
    bench.add(after)
    bench.finish()
    check_scores(model, LONG, bench.results[after])
    assert bench.tokens(text) == [greedy(model, PROMPTS[0], 10)]


@pytest.mark.parametrize("where", ["read", "taken"])
def test_out_of_memory_inside_a_long_input_begins_it_again(
    model: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    bench = Bench(model, step_tokens=32)
    call = scoring(LONG)
    bench.add(call)
    bench.step()
    if where == "read":
        bench.runner.faults["read"] = [oom()]
    else:
        waiting = [oom()]

        def taken(*given: Any) -> list[TokenLogprob]:
            if waiting:
                raise waiting.pop()
            return logprobs_of(*given)

        monkeypatch.setattr("modelworker_server.workers.inputs.logprobs_of", taken)
    bench.finish()
    first = [32] if where == "read" else [32, 32]
    assert bench.runner.read == first + [16] * 6 + [4]
    check_scores(model, LONG, bench.results[call])


def test_a_cancelled_one_leaves_at_the_next_step(model: Any) -> None:
    bench = Bench(model, step_tokens=16)
    gone, stays = scoring(LONG), scoring(PROMPTS[1])
    bench.add(gone)
    bench.add(stays)
    bench.step()
    gone.cancelled = True
    bench.finish()
    assert bench.runner.read == [16, 16, 4]
    assert bench.results[gone] == []
    check_scores(model, PROMPTS[1], bench.results[stays])


def test_all_end_with_the_engine(model: Any) -> None:
    bench = Bench(model, step_tokens=16)
    calls = [scoring(LONG), embedding(PROMPTS)]
    for call in calls:
        bench.add(call)
    bench.step()
    over = Unavailable("over")
    bench.scheduler.fail_all(over)
    assert [event for event in bench.scheduler.events if event[0] in calls] == [
        (call, over) for call in calls
    ]
