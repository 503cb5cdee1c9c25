"""Any text, on real tokenizers: the reference's tokens, one position for each step, one BOS."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelworker_api.rewards import ReferenceModel, ScoreType, ScoringConfig
from modelworker_server.scoring import recipes
from modelworker_server.scoring.steps import item_from_steps
from modelworker_server.scoring.values import CheckpointFacts, HeadKind, Layout, Scorer
from modelworker_server.workers.reward.tokens import RewardTokens
from modelworker_server.workers.tokens import Tokens
from tests.golden_cases import Case
from tests.golden_outcome import joined
from tests.golden_outcome_cases import OUTCOME
from tests.golden_process import LogRatio
from tests.golden_process_cases import PROCESS
from tests.golden_tokenizers import Files

FilesOf = Callable[[str], Files]

LINES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    str.strip
)
"""Without new lines, which some recipes take for the ends of steps."""
MARKS = st.sampled_from(
    ["ки", " ки", " ки\n", "<extra_0>", "\n", "\n\n", ".", "+", "-", " \n\n\n\n\n ", "<|eot_id|>"]
)
HOSTILE = st.lists(LINES | MARKS, min_size=1, max_size=4).map("".join).filter(str.strip)
"""With what the recipes themselves write between steps."""

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Of an implicit reward two steps may end at one token: a last step of one token adds nothing.
COUNTED = [case for case in PROCESS if not isinstance(case.score, LogRatio)]


def scorer(case: Case, files: Files) -> Scorer:
    facts = CheckpointFacts(
        architectures=(case.architecture,),
        model_type=case.model_type,
        weights=frozenset({"model.norm.weight"}),
    )
    other = ReferenceModel(source="local", model="other")
    reference = other if isinstance(case.score, LogRatio) else None
    config = ScoringConfig(type=case.type, family=case.family, reference=reference, **case.scoring)
    tokens = RewardTokens(files.plain, Tokens(files.plain))
    return recipes.bind(config, facts, tokens, max_tokens=4096)


def lay_out(scoring: Scorer, question: str, steps: list[str]) -> Layout:
    context = (("user", question),)
    if scoring.info.type is ScoreType.OUTCOME:
        return scoring.lay_out(item_from_steps(context, [joined(steps)], "\n\n"))
    return scoring.lay_out(item_from_steps(context, steps, scoring.info.step_separator))


@pytest.mark.parametrize("case", [*PROCESS, *OUTCOME], ids=lambda case: case.id)
@FEW
@given(question=LINES, steps=st.lists(LINES, min_size=1, max_size=4))
@example(question="1+1?", steps=["It is 2.", "So 2."])
def test_reference_tokens(
    case: Case, tokenizer_files: FilesOf, question: str, steps: list[str]
) -> None:
    files = tokenizer_files(case.tokenizer)
    scoring = scorer(case, files)
    layout = lay_out(scoring, question, steps)
    expected = case.lay(files, question, steps)
    until = expected.reads[-1] + 1
    assert list(layout.token_ids[:until]) == expected.ids[:until]
    if scoring.head.kind is not HeadKind.LOG_RATIO:
        assert [layout.reads[place.read] for place in layout.places] == expected.reads


@pytest.mark.parametrize("case", COUNTED, ids=lambda case: case.id)
@FEW
@given(question=HOSTILE, steps=st.lists(HOSTILE, min_size=1, max_size=4))
@example(question="ки", steps=["a ки\nb ки\n", "<extra_0>", "c.\n\n"])
def test_a_score_for_each_step(
    case: Case, tokenizer_files: FilesOf, question: str, steps: list[str]
) -> None:
    files = tokenizer_files(case.tokenizer)
    layout = lay_out(scorer(case, files), question, steps)
    reads = [layout.reads[place.read] for place in layout.places]
    assert len(reads) == len(steps)
    assert reads == sorted(set(reads))
    bos = files.plain.bos_token_id
    if bos is not None:
        assert [i for i, token in enumerate(layout.token_ids) if token == bos] == [0]
