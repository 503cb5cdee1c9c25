"""The recipes by family, and binding one to a checkpoint."""

from dataclasses import asdict, replace
from typing import Final

from modelworker_api.rewards import Family, Overflow, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError, StepMismatch, WorkerError
from modelworker_server.scoring.families.custom import custom_recipe
from modelworker_server.scoring.families.detection import detect
from modelworker_server.scoring.families.links import Accumulated, Plain, RowLink
from modelworker_server.scoring.families.outcome import OUTCOME
from modelworker_server.scoring.families.process import PROCESS, REASONEVAL_34B
from modelworker_server.scoring.families.recipe import Recipe
from modelworker_server.scoring.layouts.stepwise import Stepwise
from modelworker_server.scoring.layouts.ways import Arranged
from modelworker_server.scoring.scorer import RecipeScorer, recipe_hash
from modelworker_server.scoring.steps import item_from_steps
from modelworker_server.scoring.values import (
    CheckpointFacts,
    Head,
    HeadKind,
    Layout,
    Scorer,
    ScoringInfo,
    Tokenizer,
)

__all__ = ["RECIPES", "bind", "detect"]

RECIPES: Final = {recipe.family: recipe for recipe in (*PROCESS, *OUTCOME)}
"""One for each named family; of ReasonEval the one for checkpoints of type mistral."""

_EXAMPLE: Final = item_from_steps(
    (("user", "What is 1 + 1?"),), ("One and one are 2", "The answer is 2"), "\n\n"
)
"""Laid out when a recipe is bound: its tags are found then, or never."""


def bind(
    config: ScoringConfig, facts: CheckpointFacts, tokenizer: Tokenizer, *, max_tokens: int
) -> Scorer:
    """The recipe that `config` asks for, with every token looked up.

    Args:
        config: `spec.scoring`.
        facts: what the checkpoint says of itself.
        tokenizer: the checkpoint's.
        max_tokens: longest input of the model.

    Raises:
        LoadError: `Auto` finds no single family; an option is missing or does not apply; the
            checkpoint has no head as the family reads it; a token that the recipe needs is
            not one of the vocabulary, or the chat template cannot be used.
    """
    recipe = _configured(_chosen(config, facts, tokenizer), config, facts)
    arranged = recipe.way.bind(tokenizer)
    example = _example(recipe, arranged)
    head = Head(recipe.head, tuple(arranged.candidate(text) for text in recipe.candidates))
    if len(set(head.token_ids)) != len(head.token_ids):
        raise LoadError(
            FailureReason.TOKEN_NOT_IN_VOCABULARY,
            f"the candidates {recipe.candidates} are the same token {head.token_ids[0]}",
        )
    return RecipeScorer(
        info=ScoringInfo(
            family=recipe.family,
            recipe_hash=_hash(recipe, config, head, example, max_tokens),
            type=recipe.type,
            aggregation=recipe.aggregation,
            step_separator=recipe.separator,
            compared=not recipe.not_compared,
        ),
        head=head,
        incremental=recipe.incremental,
        arranged=arranged,
        link=recipe.link,
        max_tokens=max_tokens,
        overflow=config.overflow,
    )


def _chosen(config: ScoringConfig, facts: CheckpointFacts, tokenizer: Tokenizer) -> Recipe:
    """The recipe of the family that is stated or detected."""
    family = config.family
    if (family is Family.CUSTOM) != (config.custom is not None):
        raise _wrong("family Custom and spec.scoring.custom belong together; give both or none")
    if config.custom is not None:
        return custom_recipe(config.custom, facts.num_labels)
    if family is Family.AUTO:
        family = detect(facts, tokenizer)
    if family is Family.REASONEVAL and facts.model_type == "llama":
        return REASONEVAL_34B
    return RECIPES[family]


def _configured(recipe: Recipe, config: ScoringConfig, facts: CheckpointFacts) -> Recipe:
    """The recipe with the options in it that apply; the others are refused."""
    if recipe.type is not config.type:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"family {recipe.family} scores {_SCORES[recipe.type]}: spec.scoring.type has to be "
            f"{recipe.type}, not {config.type}",
        )
    _require_labels(recipe, facts)
    recipe = _with_implicit(recipe, config)
    if config.normalize:
        recipe = replace(recipe, link=_normalized(recipe, facts))
    if config.step_separator is not None:
        recipe = _separated(recipe, config.step_separator)
    return replace(recipe, aggregation=config.aggregation or recipe.aggregation)


_SCORES: Final = {ScoreType.PROCESS: "each step", ScoreType.OUTCOME: "whole answers"}


def _require_labels(recipe: Recipe, facts: CheckpointFacts) -> None:
    """Refuse a classification head that the recipe's link cannot read."""
    if recipe.head not in {HeadKind.CLASSIFIER, HeadKind.VALUE}:
        return
    if facts.num_labels is None or not isinstance(recipe.link, RowLink):
        return
    if facts.num_labels != recipe.link.width:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"family {recipe.family} needs a head of {recipe.link.width} labels and the "
            f"checkpoint's has {facts.num_labels}; state another family, or family Custom with "
            "a labelIndex",
        )


def _with_implicit(recipe: Recipe, config: ScoringConfig) -> Recipe:
    """What implicit rewards alone have: a reference model, beta, and q or r."""
    if not isinstance(recipe.link, Accumulated):
        given = [
            name
            for name, is_given in (
                ("referenceModel", config.reference is not None),
                ("beta", config.beta is not None),
                ("form", not config.cumulative),
            )
            if is_given
        ]
        if given:
            raise _wrong(
                f"spec.scoring.implicit.{given[0]} has no use with family {recipe.family}, whose "
                "scores are of one model; leave it out"
            )
        return recipe
    if config.reference is None:
        raise _wrong(
            f"family {recipe.family} compares the model with a second one; give it in "
            "spec.scoring.implicit.referenceModel"
        )
    if recipe.family is Family.IMPLICIT_PRM and config.beta is None:
        raise _wrong(
            "family ImplicitPRM has no beta of its own: give that of the model's training in "
            "spec.scoring.implicit.beta"
        )
    beta = recipe.link.beta if config.beta is None else config.beta
    return replace(recipe, link=Accumulated(beta, config.cumulative))


def _normalized(recipe: Recipe, facts: CheckpointFacts) -> Plain:
    if recipe.family is not Family.OPENRLHF_RM:
        raise _wrong(
            f"spec.scoring.normalize is of family OpenRLHFRM and has no use with {recipe.family}"
        )
    if facts.mean is None or facts.std is None or not facts.std > 0:
        raise _wrong(
            "spec.scoring.normalize needs a mean and a std above 0 in the checkpoint's "
            f"config.json, which has mean {facts.mean} and std {facts.std}; leave it out"
        )
    return Plain(mean=facts.mean, std=facts.std)


def _separated(recipe: Recipe, separator: str) -> Recipe:
    if not separator:
        raise _wrong("spec.scoring.stepSeparator is empty; leave it out for the recipe's own")
    if recipe.type is ScoreType.OUTCOME:
        raise _wrong(
            f"spec.scoring.stepSeparator has no use with family {recipe.family}, which scores "
            "whole answers"
        )
    if recipe.family is Family.TRL_PRM and isinstance(recipe.way, Stepwise):
        # Here it is part of the model's input as well.
        recipe = replace(recipe, way=replace(recipe.way, separator=separator))
    return replace(recipe, separator=separator)


def _example(recipe: Recipe, arranged: Arranged) -> Layout:
    """The example's layout, which shows that the recipe fits the tokenizer."""
    try:
        return arranged.lay_out(_EXAMPLE)
    except StepMismatch as error:
        raise LoadError(
            FailureReason.TOKEN_NOT_IN_VOCABULARY,
            f"family {recipe.family} does not fit this tokenizer: {error.message}; state a "
            "family that fits the checkpoint",
        ) from error
    except WorkerError as error:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"family {recipe.family} does not fit this checkpoint: {error.message}",
        ) from error


def _hash(
    recipe: Recipe, config: ScoringConfig, head: Head, example: Layout, max_tokens: int
) -> str:
    """Depends on the recipe, its options, and what they make of the example's text."""
    stated = config.model_dump(mode="json", include={"custom", "reference"})
    return recipe_hash(
        {
            "recipe": asdict(replace(recipe, not_compared="")),
            "stated": stated,
            "candidates": head.token_ids,
            "example": (example.token_ids, example.reads),
            "truncated_to": max_tokens if config.overflow is Overflow.TRUNCATE_LEFT else None,
        }
    )


def _wrong(message: str) -> LoadError:
    return LoadError(FailureReason.MODEL_UNSUPPORTED, message)
