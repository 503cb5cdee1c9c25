"""`spec.scoring` of a RewardModel: from the words of the CRD to those of the worker."""

from typing import Any, Final

from pydantic import ValidationError

from modelworker_api import rewards
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec.reader import Reader
from modelworker_operator.spec.sources import source_of
from modelworker_operator.spec.values import ReferenceSpec, ScoringSpec

TYPES: Final = {one.value: one for one in rewards.ScoreType}
FAMILIES: Final = {one.value: one for one in rewards.Family}
AGGREGATIONS: Final = {
    "Min": rewards.Aggregation.MIN,
    "Last": rewards.Aggregation.LAST,
    "Product": rewards.Aggregation.PROD,
    "Mean": rewards.Aggregation.MEAN,
    "Sum": rewards.Aggregation.SUM,
}
OVERFLOWS: Final = {
    "Error": rewards.Overflow.ERROR,
    "TruncateLeft": rewards.Overflow.TRUNCATE_LEFT,
}
FORMS: Final = ("Cumulative", "PerStep")
POSITIONS: Final = {one.value: one for one in rewards.Position}
LINKS: Final = {one.value: one for one in rewards.Link}


def scoring_of(scoring: Reader) -> ScoringSpec:
    """How the model scores; what the worker defaults itself is left to it.

    Raises:
        InvalidSpec: a field is missing or no word that is known.
    """
    implicit = scoring.child("implicit")
    try:
        config = rewards.ScoringConfig(
            type=scoring.needed("type", TYPES),
            family=scoring.word("family", FAMILIES) or rewards.Family.AUTO,
            step_separator=scoring.text("stepSeparator"),
            aggregation=scoring.word("aggregation", AGGREGATIONS),
            overflow=scoring.word("overflow", OVERFLOWS) or rewards.Overflow.ERROR,
            max_batch_tokens=scoring.child("batching").number("maxTokens", 0, least=1) or None,
            cache_tokens=scoring.child("cache").number("maxTokens", 0),
            normalize=scoring.flag("normalize"),
            beta=implicit.positive("beta"),
            cumulative=implicit.choice("form", *FORMS) == FORMS[0],
            custom=_custom(scoring.child("custom")) if scoring.has("custom") else None,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSpec(f"{scoring.path}: {where}: {first['msg']}; correct it") from error
    reference = implicit.child("referenceModel")
    return ScoringSpec(
        config=config,
        reference=ReferenceSpec(source_of(reference.child("source")), reference.text("ggufFile"))
        if scoring.has("implicit")
        else None,
    )


def _custom(custom: Reader) -> rewards.CustomRecipe:
    template, step, tokens = (custom.child(key) for key in ("template", "step", "tokens"))
    _exactly_one(template, "text", "chat")
    _exactly_one(custom, "tokens", "label")
    given: dict[str, Any] = {
        "text": template.text("text"),
        "system": template.child("chat").text("system"),
        "step_tag": step.text("tag"),
        "step_format": step.text("format"),
        "positive_token": tokens.required("positive") if custom.has("tokens") else None,
        "negative_token": tokens.required("negative") if custom.has("tokens") else None,
        "label_index": custom.child("label").number("index", 0) if custom.has("label") else None,
        "position": custom.needed("position", POSITIONS),
        "link": custom.needed("link", LINKS),
    }
    return rewards.CustomRecipe(**{key: value for key, value in given.items() if value is not None})


def _exactly_one(reader: Reader, first: str, second: str) -> None:
    if reader.has(first) == reader.has(second):
        raise InvalidSpec(f"{reader.path} needs exactly one of {first} and {second}; set one")
