"""Every architecture loads from its checkpoint, and its head gives what it should."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from modelworker_server.scoring.values import Head, HeadKind
from modelworker_server.workers.reward.loading import load_reward
from tests.engine_support import config, load, save
from tests.reward_checkpoints import (
    ANSWER,
    CLASSIFIER,
    HIDDEN,
    QUESTION,
    VALUE,
    Rows,
    loaded,
    one,
    states,
    two,
)
from tests.reward_support import (
    CANDIDATES,
    PROCESS,
    TinyScorer,
    binder,
    numbers,
    random,
    rewrite,
    with_head,
)


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
    folder = with_head(tmp_path / "reward", kind, tensors, **settings)
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
    folder = with_head(tmp_path / "reward", "llama", tensors, gating_temperature=4)
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
