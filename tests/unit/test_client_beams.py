"""Beam, the node of a search tree; no network."""

import pickle
from typing import Any

import pytest

from modelworker import Beam, Generation, InvalidRequest, Sample, Usage, WorkerFailed, _beams


def sample(index: int = 0, text: str = "a\n\n", **more: Any) -> Sample:
    given = {"token_ids": (5, 6), "logprobs": (-0.5, -0.25), "finish_reason": "stop"}
    return Sample(index=index, text=text, **{"stop_reason": "\n\n", **given, **more})


def generation(*samples: Sample) -> Generation:
    return Generation(samples, (1, 2), Usage(2, 2), "pod-a", "policy")


def test_a_child_is_its_parent_and_a_step() -> None:
    root = Beam.start([1, 2], session="tree")
    (first,) = _beams.children(root, generation(sample()), ["\n\n"])
    first = first.scored(0.5)
    (second,) = _beams.children(
        first,
        generation(sample(text="b", token_ids=(7,), logprobs=(-1.0,), stop_reason=None)),
        ["\n\n"],
    )
    second = second.scored(0.25)
    assert _beams.prompt_of(first) == [1, 2, 5, 6]
    assert second == Beam(
        prompt=(1, 2),
        session="tree",
        prompt_token_ids=(1, 2),
        token_ids=(5, 6, 7),
        logprobs=(-0.5, -0.25, -1.0),
        text="a\n\nb",
        steps=("a\n\n", "b"),
        scores=(0.5, 0.25),
        finish_reason="stop",
        done=True,
    )
    assert (second.cumulative_logprob, second.mean_logprob) == (-1.75, -1.75 / 3)
    assert (root.cumulative_logprob, root.mean_logprob) == (0.0, None)
    assert pickle.loads(pickle.dumps(second)) == second


@pytest.mark.parametrize(
    ("changes", "done", "steps"),
    [
        pytest.param({}, False, ("a\n\n",), id="separator"),
        pytest.param({"stop_reason": None, "text": "a"}, True, ("a",), id="end-of-text"),
        pytest.param({"stop_reason": 2, "text": "a"}, True, ("a",), id="stop-token"),
        pytest.param(
            {"finish_reason": "length", "stop_reason": None, "text": "a"}, True, ("a",), id="length"
        ),
        pytest.param({"stop_reason": None, "text": ""}, True, (), id="nothing-said"),
    ],
)
def test_when_a_beam_is_done(changes: dict[str, Any], done: bool, steps: tuple[str, ...]) -> None:
    (child,) = _beams.children(Beam.start([1]), generation(sample(**changes)), ["\n\n"])
    assert (child.done, child.steps) == (done, steps)


def test_equal_children_stay_and_share_the_session() -> None:
    root = Beam.start("question")
    children = _beams.children(root, generation(sample(0), sample(1)), ["\n\n"])
    assert children[0] == children[1]
    assert {child.session for child in children} == {root.session}
    assert Beam.start("question").session != root.session


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"token_ids": None}, id="no-ids"),
        pytest.param({"logprobs": None}, id="no-logprobs"),
    ],
)
def test_a_step_without_tokens_is_no_step(changes: dict[str, Any]) -> None:
    with pytest.raises(WorkerFailed, match="pod-a gave no token ids"):
        _beams.children(Beam.start([1]), generation(sample(**changes)), ["\n\n"])


@pytest.mark.parametrize(
    ("prompt", "kept", "ids"),
    [
        pytest.param("text", "text", None, id="text"),
        pytest.param([1, 2], (1, 2), (1, 2), id="ids"),
        pytest.param(
            [{"role": "user", "content": "x"}],
            ({"role": "user", "content": "x"},),
            None,
            id="conversation",
        ),
    ],
)
def test_start(prompt: Any, kept: Any, ids: Any) -> None:
    beam = Beam.start(prompt)
    assert (beam.prompt, beam.prompt_token_ids, beam.done) == (kept, ids, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"prompt": ""}, "the prompt is empty", id="empty"),
        pytest.param({"prompt": []}, "the prompt is empty", id="no-ids"),
        pytest.param({"prompt": 3}, "must be a string or a list of token ids", id="number"),
        pytest.param({"prompt": [-1]}, "negative token id", id="negative"),
        pytest.param({"prompt": [{"content": "x"}]}, "message 0", id="no-role"),
        pytest.param({"prompt": "x", "session": ""}, "session must be", id="session-empty"),
        pytest.param({"prompt": "x", "session": 3}, "session must be", id="session-number"),
    ],
)
def test_start_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Beam.start(**arguments)


@pytest.mark.parametrize(
    ("beams", "message"),
    [
        pytest.param(Beam.start([1]), "must be a list of Beam", id="one"),
        pytest.param("x", "must be a list of Beam", id="text"),
        pytest.param(["x"], "beam 0 is a str; begin with Beam.start", id="texts"),
        pytest.param(
            [Beam.start([1]), Beam(prompt=(1,), session="s", done=True, finish_reason="length")],
            r"beam 1 is done \(length\)",
            id="done",
        ),
    ],
)
def test_what_cannot_grow(beams: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        _beams.checked(beams)
