"""The other ways in which an input comes, and what comes besides the scores."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from modelworker_api.rewards import Family
from modelworker_server.scoring.steps import split
from modelworker_server.scoring.values import Item, Templated
from tests.golden_outcome import joined
from tests.golden_outcome_cases import OUTCOME
from tests.golden_process import Laid, redundancy
from tests.golden_process_cases import PROCESS
from tests.golden_support import PROBLEMS, Golden, Problem, difference, values
from tests.golden_tokenizers import MATH_SYSTEM, Files

Make = Callable[[Family], Golden]


@pytest.fixture
def make(tokenizer_files: Callable[[str], Files], tmp_path: Path) -> Iterator[Make]:
    """A family's checkpoint by name."""

    def made(family: Family) -> Golden:
        case = next(case for case in (*PROCESS, *OUTCOME) if case.family is family)
        return Golden.make(case, tokenizer_files(case.tokenizer), tmp_path)

    yield made
    shutil.rmtree(tmp_path)


def chat(files: Files, problem: Problem) -> str:
    return files.chat(("user", problem.question), ("assistant", joined(problem.steps)))


def math_chat(files: Files, problem: Problem) -> str:
    turns = (("system", MATH_SYSTEM), ("user", problem.question))
    return files.chat(*turns, ("assistant", joined(problem.steps)))


@pytest.mark.parametrize(
    ("family", "write"),
    [
        pytest.param(Family.QWEN_MATH_RM, math_chat, id="QwenMathRM"),
        pytest.param(
            Family.REASONFLUX_ORM,
            lambda _, problem: problem.question + joined(problem.steps),
            id="ReasonFluxORM",
        ),
        pytest.param(Family.OPENRLHF_RM, chat, id="OpenRLHFRM"),
        pytest.param(
            Family.OPENRLHF_RM,
            lambda files, problem: chat(files, problem).rstrip("\n").removesuffix("<|im_end|>"),
            id="OpenRLHFRM-without-its-end",
        ),
        pytest.param(Family.SEQUENCE_CLASSIFIER, chat, id="SequenceClassifier"),
        pytest.param(
            Family.SEQUENCE_CLASSIFIER,
            lambda files, problem: chat(files, problem).removeprefix("<|begin_of_text|>"),
            id="SequenceClassifier-without-its-beginning",
        ),
        pytest.param(Family.ARMO_RM, chat, id="ArmoRM"),
        pytest.param(Family.INTERNLM2_REWARD, chat, id="InternLM2Reward"),
    ],
)
def test_templated_text(make: Make, family: Family, write: Callable[[Files, Problem], str]) -> None:
    golden = make(family)
    texts = [Templated(write(golden.files, problem)) for problem in PROBLEMS]
    with golden.serving() as serving:
        found = values(serving.score(texts))
    assert difference(found, golden.alone(PROBLEMS)) <= golden.case.tolerance


@pytest.mark.parametrize("family", [Family.SEQUENCE_CLASSIFIER, Family.ARMO_RM])
def test_conversation(make: Make, family: Family) -> None:
    golden = make(family)
    context = (
        ("user", "Name a prime number."),
        ("assistant", "Seven."),
        ("user", "And an even one?"),
    )
    answer = "Two, which is the only one."
    ids = golden.files.chat_ids(*context, ("assistant", answer))
    expected = golden.scores([Laid(ids, [len(ids) - 1])])
    with golden.serving() as serving:
        found = values(serving.score([Item(context, answer, ((0, len(answer)),))]))
    assert difference(found, expected) <= golden.case.tolerance


@pytest.mark.parametrize(
    ("family", "tag", "tag_id", "first"),
    [
        pytest.param(Family.MATH_SHEPHERD, " ки\n", 12902, ("<s>",), id="MathShepherd"),
        pytest.param(Family.MATH_PSA, " \n\n\n\n\n ", 76325, (), id="MathPSA"),
    ],
)
def test_text_with_tags(
    make: Make, family: Family, tag: str, tag_id: int, first: Sequence[str]
) -> None:
    """What OpenR sends: its worker reads every tag's token in the text."""
    golden = make(family)
    # A word that ends in the tag's letters is refused, where the reference takes it for text.
    problems = [problem for problem in PROBLEMS if "ки" not in "".join(problem.steps)]
    texts = [f"{problem.question} {tag.join(problem.steps)}{tag}" for problem in problems]
    laid = []
    for text in texts:
        ids = [*map(golden.files.id, first), *golden.files.ids(text)]
        laid.append(Laid(ids, [i for i, token in enumerate(ids) if token == tag_id]))
    with golden.serving() as serving:
        layouts = [serving.worker.lay_out_tagged(text) for text in texts]
        found = values(serving.score([layout for layout in layouts if layout is not None]))
    assert difference(found, [golden.scores([one])[0] for one in laid]) <= golden.case.tolerance


def test_answer_in_the_form_of_the_data(make: Make) -> None:
    """RLHFlow's script splits at `ки` and a new line, and strips the pieces."""
    golden = make(Family.RLHFLOW_PRM_MISTRAL)
    problem = PROBLEMS[0]
    answer = " ки\n".join(problem.steps) + " ки\n"
    pieces = [piece.strip() for piece in answer.split("ки\n") if piece]
    with golden.serving() as serving:
        spans = split(answer, serving.worker.scoring.step_separator)
        found = values(serving.score([Item((("user", problem.question),), answer, spans)]))
    expected = golden.alone([Problem(problem.question, tuple(pieces))])
    assert difference(found, expected) <= golden.case.tolerance


def test_one_pass_is_as_good_as_one_for_each_step(make: Make) -> None:
    """RLHFlow's script runs a conversation for each step and reads its third token from last."""
    golden = make(Family.RLHFLOW_PRM_DEEPSEEK)
    problem = PROBLEMS[0]
    expected = []
    for count in range(1, len(problem.steps) + 1):
        (laid,) = golden.lay([Problem(problem.question, problem.steps[:count])])
        expected += golden.scores([Laid(laid.ids, [len(laid.ids) - 3])])[0]
    with golden.serving() as serving:
        found = serving.scores([problem])
    assert difference(found, [expected]) <= golden.case.tolerance


def test_normalized_rewards(make: Make) -> None:
    golden = make(Family.OPENRLHF_RM)
    mean, std = golden.case.config["mean"], golden.case.config["std"]
    expected = [[(score - mean) / std for score in row] for row in golden.alone(PROBLEMS)]
    with golden.serving(normalize=True) as serving:
        found = serving.scores(PROBLEMS)
    assert difference(found, expected) <= golden.case.tolerance


def test_redundancy(make: Make) -> None:
    golden = make(Family.REASONEVAL)
    (laid,) = golden.lay(PROBLEMS[:1])
    expected = redundancy(golden.model, golden.files, laid, golden.model.hidden([laid.ids])[0])
    problem = PROBLEMS[0]
    with golden.serving() as serving:
        (found,) = serving.results([problem])
    details = [(step.details or {})["redundancy"] for step in found.steps]
    assert difference([details], [expected]) <= golden.case.tolerance


def test_objectives(make: Make) -> None:
    """ArmoRM's answer has the objectives' own rewards, too, in order."""
    golden = make(Family.ARMO_RM)
    (laid,) = golden.lay(PROBLEMS[:1])
    last = golden.model.hidden([laid.ids])[0][-1]
    expected = golden.model.heads["regression_layer"](last).tolist()
    with golden.serving() as serving:
        (found,) = serving.results(PROBLEMS[:1])
    details = found.steps[0].details or {}
    rewards = [details[f"objective_{i}"] for i in range(len(expected))]
    assert difference([rewards], [expected]) <= golden.case.tolerance
