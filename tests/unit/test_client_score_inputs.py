"""What RMCall may be asked to score, and the bodies that workers get."""

from typing import Any, get_args

import pytest

from modelworker import InvalidRequest, RMCall, _score_inputs, _score_plan
from modelworker_api import rewards

USER = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}
NAN = float("nan")


@pytest.mark.parametrize(
    ("inputs", "more", "one", "bodies"),
    [
        pytest.param(
            ("q", "a"), {}, True, [{"question": "q", "response": "a"}], id="question-and-response"
        ),
        pytest.param(
            ["q", "a"], {}, True, [{"question": "q", "response": "a"}], id="pair-as-a-list"
        ),
        pytest.param(
            ("q", ["a", "b"]),
            {},
            True,
            [{"question": "q", "steps": ["a", "b"]}],
            id="question-and-steps",
        ),
        pytest.param(
            ("q", "a;b"),
            {"separator": ";"},
            True,
            [{"question": "q", "response": "a;b", "separator": ";"}],
            id="separator",
        ),
        pytest.param([USER, ANSWER], {}, True, [{"messages": [USER, ANSWER]}], id="messages"),
        pytest.param(
            [("q", "a"), ("q", ("b", "c")), [USER, ANSWER]],
            {},
            False,
            [
                {"question": "q", "response": "a"},
                {"question": "q", "steps": ["b", "c"]},
                {"messages": [USER, ANSWER]},
            ],
            id="list-of-all-kinds",
        ),
        pytest.param([("q", "")], {}, False, [{"question": "q", "response": ""}], id="no-answer"),
        pytest.param(
            "q", {"steps": ["a"]}, True, [{"question": "q", "steps": ["a"]}], id="steps-of-one"
        ),
        pytest.param(
            ["q", "r"],
            {"steps": [["a"], ("b", "c")]},
            False,
            [{"question": "q", "steps": ["a"]}, {"question": "r", "steps": ["b", "c"]}],
            id="steps-of-many",
        ),
        pytest.param([], {}, False, [], id="nothing"),
        pytest.param([], {"steps": []}, False, [], id="nothing-with-steps"),
    ],
)
def test_bodies(inputs: Any, more: Any, one: bool, bodies: list[dict[str, Any]]) -> None:
    given_one, items = _score_inputs.checked(inputs, **more)
    assert (given_one, [item.body for item in items]) == (one, bodies)
    request = _score_inputs.request(items, model="prm", aggregation="min")
    parsed = rewards.RewardRequest.model_validate(request)
    assert [given.model_dump(exclude_none=True) for given in parsed.inputs] == bodies
    assert parsed.aggregation is rewards.Aggregation.MIN


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        pytest.param("q", {}, "a question alone has no score", id="question-alone"),
        pytest.param(None, {}, "not a NoneType", id="none"),
        pytest.param({"q": "a"}, {}, "not a dict", id="dict"),
        pytest.param(zip("q", "a", strict=True), {}, "not a zip", id="iterator"),
        pytest.param(b"q", {}, "not a bytes", id="bytes"),
        pytest.param(("q",), {}, "the input must be", id="question-in-a-tuple"),
        pytest.param(["q", "r", "s"], {}, "the input must be", id="three-questions"),
        pytest.param([("q", "a"), ("q",)], {}, "input 1 must be", id="short-pair"),
        pytest.param([("q", "a"), "q"], {}, "input 1 must be", id="question-in-a-list"),
        pytest.param([("q", "a"), (1, "a")], {}, "input 1 must be", id="question-no-text"),
        pytest.param([("q", "a"), ()], {}, "input 1 must be", id="empty-tuple"),
        pytest.param([("q", NAN)], {}, "the steps of input 0 must be", id="nan-for-an-answer"),
        pytest.param([("q", None)], {}, "the steps of input 0 must be", id="none-for-an-answer"),
        pytest.param(("q", []), {}, "the input has 0 steps; give 1 to 4096", id="no-steps"),
        pytest.param(("q", ["a"] * 4097), {}, "has 4097 steps", id="too-many-steps"),
        pytest.param([("q", ["a", " \n"])], {}, "step 1 of input 0 must", id="blank-step"),
        pytest.param([("q", ["a", 2])], {}, "step 1 of input 0 must", id="step-no-text"),
        pytest.param(("q", "a"), {"separator": ""}, "separator must be", id="empty-separator"),
        pytest.param(("q", "a"), {"separator": 1}, "separator must be", id="separator-no-text"),
        pytest.param(
            [("q", "a"), ("q", ["a"])], {"separator": ";"}, "input 1 has steps", id="separator"
        ),
        pytest.param(
            "q", {"steps": ["a"], "separator": ";"}, "says nothing", id="separator-and-steps"
        ),
        pytest.param("q", {"steps": "a"}, "the steps of the input must", id="steps-one-text"),
        pytest.param(["q"], {"steps": ["a"]}, "the steps of input 0 must", id="steps-not-nested"),
        pytest.param(["q"], {"steps": [["a"], ["b"]]}, "1 questions .* not 2", id="too-many-lists"),
        pytest.param(["q"], {"steps": 3}, "1 questions need .* not 3", id="steps-number"),
        pytest.param([("q", "a")], {"steps": [["a"]]}, "go with a question", id="pair-and-steps"),
        pytest.param([ANSWER], {}, r"not \['assistant'\]", id="no-question"),
        pytest.param([USER], {}, r"not \['user'\]", id="messages-without-answer"),
        pytest.param([[USER, ANSWER], [ANSWER, USER]], {}, "input 1 must end", id="order"),
        pytest.param(
            [USER, {"role": "assistant", "content": None}], {}, "message 1 of the", id="content"
        ),
        pytest.param([USER, "a"], {}, "message 1 of the input", id="message-no-mapping"),
        pytest.param([("q", "a"), ("q", "\ud800")], {}, "input 1: the request", id="surrogate"),
    ],
)
def test_refused_before_anything_is_sent(inputs: Any, more: Any, message: str) -> None:
    client = RMCall("prm", endpoints=["http://127.0.0.1:9"])
    for call in (client.score, client.submit):
        with pytest.raises(InvalidRequest, match=message):
            call(inputs, **more)


@pytest.mark.parametrize(
    ("pairs", "tag", "message"),
    [
        pytest.param(("q", ["a"]), None, r"the input must be \(question, answer\)", id="steps"),
        pytest.param([("q", "a"), ("q", ["a"])], None, "input 1 must be", id="steps-in-a-list"),
        pytest.param([USER, ANSWER], None, "the input must be", id="messages"),
        pytest.param(("q", "a"), "", "separator must be", id="empty-tag"),
    ],
)
def test_called_with_pairs_of_texts_alone(pairs: Any, tag: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        RMCall("prm", endpoints=["http://127.0.0.1:9"])(pairs, tag)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"aggregation": "max"}, id="aggregation"),
        pytest.param({"aggregation": ["min"]}, id="aggregation-list"),
        pytest.param({"timeout": 0}, id="timeout"),
        pytest.param({"on_error": "ignore"}, id="on-error"),
    ],
)
def test_refused_options(options: dict[str, Any]) -> None:
    client = RMCall("prm", endpoints=["http://127.0.0.1:9"])
    (name,) = options
    for call in (client.score, client.submit):
        with pytest.raises(InvalidRequest, match=f"{name} must be"):
            call([("q", "a")], **options)


def test_refused_when_made() -> None:
    with pytest.raises(InvalidRequest, match="aggregation must be one of min, last, prod"):
        RMCall("prm", aggregation="max")  # type: ignore[arg-type]


def test_answers_to_one_question_are_known_as_such() -> None:
    told = [{"role": "user", "content": "other?"}, ANSWER]
    _, items = _score_inputs.checked(
        [("q", "a"), ("q", ["b"]), ("r", "a"), [USER, ANSWER], [USER, ANSWER], told]
    )
    shared = [item.question for item in items]
    assert [shared.index(question) for question in shared] == [0, 0, 2, 3, 3, 5]


def test_the_contracts_words_and_limits() -> None:
    assert list(get_args(_score_inputs.Aggregation)) == list(rewards.Aggregation)
    assert _score_inputs.MAX_STEPS == rewards.MAX_STEPS
    assert _score_plan.MAX_INPUTS == rewards.MAX_INPUTS
