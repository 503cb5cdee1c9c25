"""Events for what changed between two statuses: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelworker_api import kube
from modelworker_operator.status import condition_of

Reason = kube.Reason

_NORMAL: Final = frozenset(
    {
        Reason.VALID,
        Reason.MINIMUM_REPLICAS_AVAILABLE,
        Reason.SCALED_TO_ZERO,
        Reason.ROLLOUT_IN_PROGRESS,
        Reason.ROLLOUT_COMPLETE,
        Reason.ALL_REPLICAS_READY,
        Reason.STARTING,
        Reason.DOWNLOADING,
        Reason.LOADING,
        Reason.WARMING,
        Reason.SELF_TEST_PASSED,
        Reason.RECIPE_NOT_COMPARED,
        Reason.NOT_TESTED,
        Reason.ADAPTERS_LOADED,
        Reason.ADAPTERS_LOADING,
    }
)
"""Reasons of a healthy life; every other one is a warning."""


_AT_FIRST: Final = frozenset(
    {
        Reason.VALID,
        Reason.REPLICAS_UNAVAILABLE,
        Reason.NOT_TESTED,
        Reason.ADAPTERS_LOADING,
    }
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One Event to send."""

    type: Literal["Normal", "Warning"]
    reason: kube.Reason
    message: str


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Transition, ...]:
    """Events for conditions whose status or reason changed, each reason once.

    A new object gives none for being valid, not yet available, not yet tested and without
    its adapters, which it has to be.
    """
    events: dict[kube.Reason, Transition] = {}
    # Ready first: of two conditions with one reason its message says most.
    for kind in (
        kube.ConditionType.READY,
        kube.ConditionType.ACCEPTED,
        kube.ConditionType.SCORING_VERIFIED,
        kube.ConditionType.ADAPTERS_LOADED,
        kube.ConditionType.PROGRESSING,
        kube.ConditionType.AVAILABLE,
    ):
        before, after = condition_of(old, kind), condition_of(new, kind)
        if not after or all(before.get(k) == after.get(k) for k in ("status", "reason")):
            continue
        reason = kube.Reason(after["reason"])
        if not before and reason in _AT_FIRST:
            continue
        kind_of_event: Literal["Normal", "Warning"] = "Normal" if reason in _NORMAL else "Warning"
        events.setdefault(reason, Transition(kind_of_event, reason, str(after["message"])))
    return tuple(events.values())
