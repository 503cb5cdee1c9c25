"""What the CRD and its reference say of the families, against the recipes themselves."""

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from modelworker_api.rewards import VLLM_FAMILIES, Aggregation, Family, ScoreType
from modelworker_operator.spec.scoring import AGGREGATIONS
from modelworker_server.scoring.families.recipe import Recipe
from modelworker_server.scoring.recipes import RECIPES

ROOT: Final = Path(__file__).parents[2]
DOC: Final = (ROOT / "docs/rewardmodel.md").read_text().partition("## A recipe of your own")[0]
WORDS: Final = {how: word for word, how in AGGREGATIONS.items()}


def rows() -> dict[str, list[str]]:
    """The cells of the tables of families, by family."""
    lines = re.findall(r"^\| `(\w+)`(.*) \|$", DOC, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in lines}


def test_every_family_is_in_a_table_once_and_in_order() -> None:
    assert list(rows()) == [recipe.family.value for recipe in RECIPES.values()]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.family.value)
def test_table_tells_separator_and_aggregation(recipe: Recipe) -> None:
    cells = rows()[recipe.family]
    if recipe.type is ScoreType.OUTCOME:
        assert (len(cells), recipe.aggregation) == (3, Aggregation.LAST)
    else:
        separator = cells[3].strip("`").replace(r"\n", "\n")
        assert (separator, cells[4]) == (recipe.separator, WORDS[recipe.aggregation])


def test_table_marks_what_was_not_compared() -> None:
    marked = {name for name, cells in rows().items() if "†" in "".join(cells[:2])}
    unknown = {recipe.family.value for recipe in RECIPES.values() if recipe.not_compared}
    # Of ReasonEval's two checkpoints one was compared, and the other is marked.
    assert marked == unknown | {"ReasonEval"}


def test_rules_on_the_type_are_those_of_the_recipes() -> None:
    crd = yaml.safe_load((ROOT / "crds/rewardmodel.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    scoring = schema["properties"]["spec"]["properties"]["scoring"]
    rules = [one["rule"] for one in scoring["x-kubernetes-validations"][:2]]
    for rule, type_ in zip(rules, (ScoreType.PROCESS, ScoreType.OUTCOME), strict=True):
        right, *families = re.findall(r"'(\w+)'", rule)
        assert right == type_
        assert set(families) == {one.family for one in RECIPES.values() if one.type is type_}


def test_families_on_vllm_are_told() -> None:
    page = (ROOT / "docs/rewardmodel.md").read_text()
    told = page.partition("## Backend VLLM")[2].partition("The other families")[0]
    named = [Family(word) for word in re.findall(r"`(\w+)`", told) if word in set(Family)]
    assert sorted(named) == sorted(VLLM_FAMILIES)
