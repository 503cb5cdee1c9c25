"""From files to a reward model: two of them, what a recipe is told, and why not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modelworker_api.rewards import ReferenceModel, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import BadRequest, LoadError
from modelworker_server.scoring.values import CheckpointFacts, Head, HeadKind, Scorer, Tokenizer
from modelworker_server.workers.reward.loading import load_reward
from tests.engine_support import config, load, save, tokenizer
from tests.reward_checkpoints import (
    ANSWER,
    CLASSIFIER,
    HIDDEN,
    QUESTION,
    VALUE,
    loaded,
    one,
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
    folder = with_head(
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
            CLASSIFIER,
            ("model.norm",),
            {"score.weight": random(2, HIDDEN), "model.norm.weight": random(16)},
            FailureReason.LOAD_FAILED,
            r"such as norm.weight: \(16,\) instead of \(32,\)",
            id="another-shape",
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
    folder = with_head(
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
