"""What is known of how a RewardModel's workers score, and whether they proved it."""

from collections import Counter
from typing import Any

from modelworker_api import kube, wire
from modelworker_operator.status.facts import Facts, Verdict
from modelworker_operator.status.findings import finding_of, worst
from modelworker_operator.status.remedies import SELF_TEST_FAILURES
from modelworker_operator.status.values import condition_of

Reason = kube.Reason


def scoring_status(facts: Facts) -> dict[str, Any]:
    """`status.scoring`: how the ready workers score; a field on which they differ is left out.

    Empty for a ModelWorker, whatever its workers say: its schema has no such field.
    """
    if facts.worker.kind != kube.REWARDMODEL:
        return {}
    told = [report for report in _reports(facts) if report]
    fields: dict[str, set[Any]] = {
        "family": {report.family for report in told},
        "recipeHash": {report.recipe_hash for report in told},
        "compared": {report.compared for report in told},
    }
    return {name: values.pop() for name, values in fields.items() if len(values) == 1}


def scoring_verdict(facts: Facts) -> Verdict:
    """The condition ScoringVerified.

    False if a worker failed its self-test, also beside others that passed theirs: it is the
    newest spec that fails. True once every ready worker has told the recipe that it passed
    the self-test with. Else Unknown.
    """
    before = condition_of(facts.worker.status, kube.ConditionType.SCORING_VERIFIED)
    findings = [finding_of(one, facts.spec, facts.worker, before) for one in facts.waiting]
    if failed := worst(one for one in findings if one.reason in SELF_TEST_FAILURES):
        return Verdict("False", failed.reason, failed.message)
    reports = _reports(facts)
    told = [report for report in reports if report]
    if not reports:
        return Verdict(
            "Unknown", Reason.NOT_TESTED, "no worker is ready; each tests itself when it starts"
        )
    if len(told) < len(reports):
        return Verdict(
            "Unknown",
            Reason.NOT_TESTED,
            f"{len(reports) - len(told)} of {len(reports)} ready workers have not said how they "
            "score; they do so in their heartbeats",
        )
    return _passed(told)


def _passed(told: list[wire.ScoringReport]) -> Verdict:
    recipes = Counter((report.family, report.recipe_hash) for report in told)
    names = ", ".join(
        f"{family} {digest} ({count})" if len(recipes) > 1 else f"{family} {digest}"
        for (family, digest), count in sorted(recipes.items())
    )
    mixed = (
        f"; they score by {len(recipes)} recipes, whose scores are not to be compared with each "
        "other; a rollout ends this, the condition Progressing shows how far it is"
        if len(recipes) > 1
        else ""
    )
    passed = f"{len(told)} of {len(told)} ready workers passed the self-test of {names}"
    strange = sorted({report.family for report in told if not report.compared})
    if not strange:
        return Verdict("True", Reason.SELF_TEST_PASSED, f"{passed}{mixed}")
    return Verdict(
        "True",
        Reason.RECIPE_NOT_COMPARED,
        f"{passed}{mixed}; {', '.join(strange)} was not compared with its reference formula on a "
        "real tokenizer: compare some scores with the model's own code before you rely on it "
        "(docs/rewardmodel.md)",
    )


def _reports(facts: Facts) -> list[wire.ScoringReport | None]:
    """What each ready worker said; of one that has not spoken yet, what the last status says."""
    return [
        one.beat.heartbeat.scoring if one.beat else _stored(facts)
        for one in facts.workers
        if one.pod.ready
    ]


def _stored(facts: Facts) -> wire.ScoringReport | None:
    stored = facts.worker.status.get("scoring") or {}
    if not {"family", "recipeHash", "compared"} <= stored.keys():
        return None
    return wire.ScoringReport(
        family=stored["family"], recipe_hash=stored["recipeHash"], compared=stored["compared"]
    )
