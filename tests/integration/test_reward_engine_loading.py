"""Every architecture loads from its checkpoint, without remote code, and scores as it should."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from modelworker_api.rewards import ReferenceModel, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import BadRequest, LoadError
from modelworker_server.scoring.values import CheckpointFacts, Head, HeadKind, Scorer, Tokenizer
from modelworker_server.workers.reward import RewardModelWorker
from modelworker_server.workers.reward_loading import load_reward
from tests.engine_support import config, load, save, tokenizer
from tests.reward_support import CANDIDATES, PROCESS, TinyScorer, binder, numbers, random, rewrite
from tests.reward_support import with_head as headed

HIDDEN = 32
QUESTION, ANSWER = "What is 2 + 3?", ("It is 5.", "Done.")
CLASSIFIER, VALUE = Head(HeadKind.CLASSIFIER), Head(HeadKind.VALUE)
Rows = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def loaded(folder: Path, scorer: TinyScorer, **changes: Any) -> Iterator[tuple[Any, Any]]:
    """A worker and a runner of its event loop."""
    settings = config(folder, **{"scoring": PROCESS, **changes})
    with asyncio.Runner() as runner:
        worker = RewardModelWorker(settings, binder(scorer))
        runner.run(worker.load(lambda *_: None))
        try:
            yield runner, worker
        finally:
            runner.run(worker.close())


def states(folder: Path, ids: Sequence[int], **changes: Any) -> torch.Tensor:
    """The last hidden states by the causal language model that the folder was made from."""
    with torch.inference_mode():
        output = load(folder).base_model(torch.tensor([list(ids)]))
    result: torch.Tensor = output.last_hidden_state[0]
    return result


# --- heads by the names of their tensors ---------------------------------------------------


def one(name: str, labels: int, *, bias: bool) -> tuple[dict[str, torch.Tensor], Rows]:
    """A head of one linear layer, and its rows."""
    weight, offset = random(labels, HIDDEN), random(labels, seed=6)
    tensors = {f"{name}.weight": weight}
    if bias:
        tensors[f"{name}.bias"] = offset
    return tensors, lambda h: linear(h, weight, offset if bias else None)


def two(labels: int) -> tuple[dict[str, torch.Tensor], Rows]:
    """Qwen's head of two layers with a ReLU between."""
    first, second = one("score.0", HIDDEN, bias=True), one("score.2", labels, bias=True)
    return {**first[0], **second[0]}, lambda h: second[1](torch.relu(first[1](h)))


@pytest.mark.parametrize(
    ("kind", "head", "made", "settings"),
    [
        pytest.param(
            "llama",
            VALUE,
            one("score", 1, bias=False),
            {"architectures": ["LlamaForSequenceClassification"]},
            id="sequence-classifier",
        ),
        pytest.param(
            "qwen2",
            CLASSIFIER,
            one("score", 2, bias=True),
            {"architectures": ["Qwen2ForTokenClassification"]},
            id="trl-or-pure",
        ),
        pytest.param(
            "gemma2",
            VALUE,
            one("score", 1, bias=False),
            {"architectures": ["Gemma2ForSequenceClassification"]},
            id="gemma2-classifier",
        ),
        pytest.param(
            "qwen2",
            CLASSIFIER,
            two(2),
            {
                "architectures": ["Qwen2ForProcessRewardModel"],
                "auto_map": {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"},
            },
            id="qwen-prm",
        ),
        pytest.param(
            "qwen2",
            VALUE,
            two(1),
            {"architectures": ["Qwen2ForRewardModel"]},
            id="qwen-rm",
        ),
        pytest.param(
            "qwen2",
            VALUE,
            one("v_head.summary", 1, bias=True),
            {"architectures": ["Qwen2ForPrmModel"]},
            id="skywork-prm",
        ),
        pytest.param(
            "llama",
            VALUE,
            one("reward_out", 1, bias=False),
            {"value_head_prefix": "reward_out", "mean": 0.5, "std": 2.0},
            id="openrlhf",
        ),
        pytest.param(
            "mistral-window",
            CLASSIFIER,
            one("score_head", 3, bias=True),
            {"architectures": ["ReasonEval_7B"], "score_dimension": 3, "use_bias": True},
            id="reasoneval",
        ),
    ],
)
def test_a_head_is_found_by_its_tensors(
    tmp_path: Path,
    kind: str,
    head: Head,
    made: tuple[dict[str, torch.Tensor], Rows],
    settings: dict[str, Any],
) -> None:
    tensors, rows_of = made
    plain = save(tmp_path / "plain", kind)
    folder = headed(tmp_path / "reward", kind, tensors, **settings)
    scorer = TinyScorer(head=head)
    layout = scorer.of(QUESTION, ANSWER)
    wanted = rows_of(states(plain, layout.token_ids))[list(layout.reads), 0]
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
        assert numbers(result) == pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-5)
        assert worker.info.dtype == "float32"


def test_a_model_inside_of_a_wrapper(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", "qwen2")
    tensors, rows_of = one("v_head.summary", 1, bias=True)
    folder = save(tmp_path / "reward", "qwen2")
    rewrite(folder, rename=lambda name: f"pretrained_model.{name}", add=tensors)
    scorer = TinyScorer(head=VALUE)
    layout = scorer.of(QUESTION, ANSWER)
    wanted = rows_of(states(plain, layout.token_ids))[list(layout.reads), 0]
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-5)


def test_a_head_in_a_file_of_its_own(tmp_path: Path) -> None:
    folder = save(tmp_path, "qwen2")
    tensors, rows_of = one("reward_head", 1, bias=True)
    state = {name.removeprefix("reward_head."): tensor for name, tensor in tensors.items()}
    torch.save(state, folder / "reward_head.pt")
    scorer = TinyScorer(head=VALUE)
    layout = scorer.of(QUESTION, ANSWER)
    wanted = rows_of(states(folder, layout.token_ids))[list(layout.reads), 0]
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "phi"])
@pytest.mark.parametrize("tied", [False, True], ids=["own-head", "tied"])
def test_candidates_of_a_language_model(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = save(tmp_path, kind, tie_word_embeddings=tied)
    scorer = TinyScorer(values=lambda rows: [row[0] - row[1] for row in rows])
    layout = scorer.of(QUESTION, ANSWER)
    with torch.inference_mode():
        logits = load(folder)(torch.tensor([layout.token_ids])).logits[0]
    plus, minus = CANDIDATES.token_ids
    wanted = [float(logits[read, plus] - logits[read, minus]) for read in layout.reads]
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted, abs=1e-5)


def test_the_mean_over_the_vocabulary(tmp_path: Path) -> None:
    folder = save(tmp_path, "llama")
    scorer = TinyScorer(head=Head(HeadKind.VOCABULARY_MEAN))
    layout = scorer.of(QUESTION, ANSWER)
    with torch.inference_mode():
        logits = load(folder)(torch.tensor([layout.token_ids])).logits[0]
    wanted = logits.mean(dim=-1)[list(layout.reads)].tolist()
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted, abs=1e-5)


def test_objectives_and_their_gate(tmp_path: Path) -> None:
    objectives, width = 5, 12
    sizes = [(width, HIDDEN), (width, width), (objectives, width)]
    gate = [(random(*shape, seed=n), random(shape[0], seed=n + 9)) for n, shape in enumerate(sizes)]
    regression, transform = random(objectives, HIDDEN), random(objectives, objectives, seed=8)
    tensors = {"regression_layer.weight": regression, "reward_transform_matrix": transform}
    tensors["gating.logit_scale"] = torch.tensor([1.5])
    for number, (weight, bias) in enumerate(gate):
        tensors[f"gating.layers.{number}.weight"] = weight
        tensors[f"gating.layers.{number}.bias"] = bias
    plain = save(tmp_path / "plain", "llama")
    folder = headed(tmp_path / "reward", "llama", tensors, gating_temperature=4)
    scorer = TinyScorer(head=Head(HeadKind.OBJECTIVES), values=lambda rows: [*rows[0]][:15])
    layout = scorer.of(QUESTION, ANSWER[:1])
    hidden = states(plain, layout.token_ids)[layout.reads[0]]
    rewards = linear(hidden, regression)
    inner = hidden
    for weight, bias in gate[:-1]:
        inner = torch.relu(linear(inner, weight, bias))
    weights = (linear(inner, *gate[-1]) / 4).softmax(-1) * 1.5
    wanted = torch.cat([rewards, rewards @ transform, weights]).tolist()
    built = load_reward(config(folder, scoring=PROCESS), lambda *_: None, binder(scorer))
    row = built.head([hidden[None]], torch.tensor([-1]))[0].tolist()
    assert row == pytest.approx(wanted, abs=1e-5)


def test_internlm2_is_a_llama(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", "llama")
    folder = save(tmp_path / "reward", "llama")
    tensors, rows_of = one("v_head", 1, bias=False)
    old = load_file(folder / "model.safetensors")
    new: dict[str, torch.Tensor] = {}
    for layer in range(2):
        q, k, v = (
            old[f"model.layers.{layer}.self_attn.{part}_proj.weight"].view(2, -1, 8, HIDDEN)
            for part in "qkv"
        )
        fused = torch.cat([q, k, v], dim=1).reshape(-1, HIDDEN)
        new[f"model.layers.{layer}.attention.wqkv.weight"] = fused.contiguous()
    names = {
        "embed_tokens": "tok_embeddings",
        "self_attn.o_proj": "attention.wo",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
    }

    def rename(name: str) -> str:
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        return name

    fused_names = [n for n in old if any(f"{part}_proj" in n for part in "qkv") and "attn" in n]
    rewrite(
        folder,
        config={
            "model_type": "internlm2",
            "architectures": ["InternLM2ForRewardModel"],
            "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
            "rope_theta": 10000,
            "bias": False,
        },
        rename=rename,
        drop=["lm_head", *fused_names],
        add={**new, **tensors},
    )
    scorer = TinyScorer(head=VALUE)
    layout = scorer.of(QUESTION, ANSWER)
    wanted = rows_of(states(plain, layout.token_ids))[list(layout.reads), 0]
    with loaded(folder, scorer) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-5)


# --- implicit rewards ----------------------------------------------------------------------


def implicit(folder: Path) -> ScoringConfig:
    return ScoringConfig(
        type=ScoreType.PROCESS, reference=ReferenceModel(source="local", model=str(folder))
    )


RATIO = TinyScorer(head=Head(HeadKind.LOG_RATIO), offset=-1, incremental=False)


def test_two_models_give_a_log_ratio(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "qwen2")
    other = save(tmp_path / "reference", "llama", seed=4)
    layout = RATIO.of(QUESTION, ANSWER)
    ids = torch.tensor([layout.token_ids])
    with torch.inference_mode():
        ratio = load(folder)(ids).logits[0].log_softmax(-1)
        ratio = ratio - load(other)(ids).logits[0].log_softmax(-1)
    wanted = [float(ratio[read, layout.token_ids[read + 1]]) for read in layout.reads]
    with loaded(folder, RATIO, scoring=implicit(other)) as (runner, worker):
        (result,) = runner.run(worker.score([layout]))
    assert numbers(result) == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"vocab_size": 200}, "200 tokens instead of 264", id="fewer-tokens"),
        pytest.param({"max_position_embeddings": 64}, "64 tokens", id="shorter"),
    ],
)
def test_a_reference_that_does_not_go_with_the_model(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = save(tmp_path / "model", "llama")
    other = save(tmp_path / "reference", "llama", **change)
    with pytest.raises(LoadError, match=says):
        load_reward(config(folder, scoring=implicit(other)), lambda *_: None, binder(RATIO))


def test_a_reference_with_another_tokenizer(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "llama")
    other = save(tmp_path / "reference", "llama")
    made = tokenizer()
    made.add_tokens(["So the answer"])
    made.save_pretrained(other)
    with pytest.raises(LoadError, match="another tokenizer"):
        load_reward(config(folder, scoring=implicit(other)), lambda *_: None, binder(RATIO))


def test_an_implicit_reward_without_its_reference(tmp_path: Path) -> None:
    folder = save(tmp_path, "llama")
    with pytest.raises(LoadError, match=r"set spec\.scoring\.reference"):
        load_reward(config(folder, scoring=PROCESS), lambda *_: None, binder(RATIO))


# --- what recipes are detected by ----------------------------------------------------------


def test_facts_and_tokenizer_for_the_recipe(tmp_path: Path) -> None:
    tensors, _ = two(2)
    folder = headed(
        tmp_path,
        "qwen2",
        tensors,
        architectures=["Qwen2ForProcessRewardModel"],
        mean=0.25,
        std=1.5,
    )
    # transformers would build this class's tokenizer anew, and lose spaces.
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "tokenizer_class": "LlamaTokenizer"})
    )
    seen: list[tuple[CheckpointFacts, Tokenizer, int]] = []

    def bind(
        asked: ScoringConfig, facts: CheckpointFacts, tokens: Tokenizer, /, *, max_tokens: int
    ) -> Scorer:
        assert asked is PROCESS
        seen.append((facts, tokens, max_tokens))
        return TinyScorer(head=CLASSIFIER)

    reports: list[tuple[LoadState, int | None]] = []
    settings = config(folder, scoring=PROCESS, max_model_len=300)
    built = load_reward(settings, lambda *report: reports.append(report), bind)
    ((facts, tokens, limit),) = seen
    assert facts.architectures == ("Qwen2ForProcessRewardModel",)
    assert (facts.model_type, facts.num_labels, facts.mean, facts.std) == ("qwen2", 2, 0.25, 1.5)
    assert {"score.0.weight", "score.2.bias", "model.norm.weight"} <= facts.weights
    assert (limit, built.max_model_len, built.vocab_size) == (300, 300, 264)
    assert reports == [(LoadState.LOADING, None)]

    ids, offsets = tokens.encode_with_offsets(" é")
    assert ids == tokens.encode(" é")
    assert len(ids) == 3
    assert offsets == [(0, 1), (1, 2), (1, 2)]
    assert (tokens.bos_id, tokens.id_of("<a>"), tokens.id_of("nothing")) == (1, 4, None)
    assert [tokens.special_id(name) for name in ("bos", "eos", "pad", "unk")] == [1, 2, 0, None]
    turns = [("user", "Hi"), ("assistant", "Yes")]
    assert tokens.render(turns) == "<s><user>Hi</s><assistant>Yes</s>"
    assert tokens.render(turns[:1], add_generation_prompt=True).endswith("<assistant>")
    with pytest.raises(BadRequest, match="Unicode"):
        tokens.encode("\ud800")


def test_a_tokenizer_without_a_template_says_so(tmp_path: Path) -> None:
    folder = save(tmp_path, "llama")
    (folder / "chat_template.jinja").unlink()

    def bind(_: Any, __: Any, tokens: Tokenizer, /, *, max_tokens: int) -> Scorer:
        tokens.render([("user", "x")])
        return TinyScorer()

    with pytest.raises(LoadError, match="chat template") as caught:
        load_reward(config(folder, scoring=PROCESS), lambda *_: None, bind)
    assert caught.value.reason is FailureReason.MODEL_UNSUPPORTED


# --- what cannot be loaded -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "drop", "add", "reason", "says"),
    [
        pytest.param(
            VALUE, (), {}, FailureReason.MODEL_UNSUPPORTED, "none of score.weight", id="no-head"
        ),
        pytest.param(
            VALUE,
            (),
            {"score.weight": random(2, HIDDEN)},
            FailureReason.LOAD_FAILED,
            "2 outputs where one",
            id="too-many-labels",
        ),
        pytest.param(
            CLASSIFIER,
            (),
            {"score.weight": random(2, 16)},
            FailureReason.LOAD_FAILED,
            r"score.weight of the checkpoint has shape \(2, 16\) where 32 inputs",
            id="another-hidden-size",
        ),
        pytest.param(
            CLASSIFIER,
            ("model.layers.1.mlp",),
            {"score.weight": random(2, HIDDEN)},
            FailureReason.LOAD_FAILED,
            "lacks 3 of the model's weights, such as layers.1.mlp.down_proj.weight",
            id="missing-layer",
        ),
        pytest.param(
            CANDIDATES,
            ("lm_head",),
            {},
            FailureReason.LOAD_FAILED,
            "such as lm_head.weight",
            id="no-language-head",
        ),
        pytest.param(
            Head(HeadKind.OBJECTIVES),
            (),
            {"regression_layer.weight": random(2, HIDDEN)},
            FailureReason.MODEL_UNSUPPORTED,
            "it lacks gating.layers",
            id="no-gate",
        ),
    ],
)
def test_tensors_that_are_missing_or_do_not_fit(
    tmp_path: Path,
    head: Head,
    drop: Sequence[str],
    add: dict[str, torch.Tensor],
    reason: FailureReason,
    says: str,
) -> None:
    folder = rewrite(save(tmp_path, "llama"), drop=drop, add=add)
    with pytest.raises(LoadError, match=says) as caught:
        load_reward(config(folder, scoring=PROCESS), lambda *_: None, binder(TinyScorer(head=head)))
    assert caught.value.reason is reason


def test_logits_that_are_scaled_besides_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, "llama", model_type="cohere")
    with pytest.raises(LoadError, match="more than a linear layer"):
        load_reward(config(folder, scoring=PROCESS), lambda *_: None, binder(TinyScorer()))


def test_a_shard_that_is_not_there(tmp_path: Path) -> None:
    folder = save(tmp_path, "llama")
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadError, match=r"model-00001-of-00002\.safetensors, which is not there"):
        load_reward(config(folder, scoring=PROCESS), lambda *_: None, binder(TinyScorer()))


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    tensors, _ = one("score", 2, bias=False)
    folder = headed(
        tmp_path,
        "qwen2",
        tensors,
        auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"},
    )
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    with loaded(folder, TinyScorer(head=CLASSIFIER)) as (_, worker):
        assert worker.alive()


def test_a_pickle_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, "qwen2")
    torch.save({"weight": Path("x")}, folder / "reward_head.pt")
    with pytest.raises(LoadError, match="loading failed"):
        load_reward(
            config(folder, scoring=PROCESS), lambda *_: None, binder(TinyScorer(head=VALUE))
        )
