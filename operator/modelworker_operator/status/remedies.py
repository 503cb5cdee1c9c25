"""What a worker itself says when it cannot serve its model, with what to do about it."""

from typing import Final

from modelworker_api import kube

Reason = kube.Reason

LOAD_FAILURES: Final = {
    Reason.MODEL_NOT_FOUND: "check spec.model.source and spec.model.ggufFile",
    Reason.MODEL_UNAUTHORIZED: "set spec.model.source.huggingFace.tokenSecretRef to a Secret with "
    "a token that may read the repository",
    Reason.MODEL_UNSUPPORTED: "choose a model that the backend can load",
    Reason.MODEL_TOO_LONG: "lower spec.model.maxModelLen",
    Reason.DOWNLOAD_FAILED: "check that the node reaches the hub, or set "
    "spec.model.source.huggingFace.endpoint",
    Reason.INSUFFICIENT_MEMORY: "raise spec.resources.limits.memory, ask for more GPUs, set a "
    "smaller spec.model.dtype, or with backend VLLM a smaller spec.vllm.kvCacheMemory",
    Reason.LOAD_FAILED: "read the log",
    Reason.TOKEN_NOT_IN_VOCABULARY: "set the spec.scoring.family that the checkpoint was trained "
    "for, or correct spec.scoring.custom",
    Reason.SCORE_SHAPE_MISMATCH: "set the spec.scoring.family that the checkpoint was trained for",
    Reason.NON_FINITE_SCORE: "set spec.model.dtype to float32, or check the checkpoint's weights",
    Reason.BATCH_MISMATCH: "set spec.model.dtype to float32",
}
"""What the worker itself reports, with what to do."""

_REWARD_FAILURES: Final = {
    Reason.MODEL_NOT_FOUND: "check spec.model.source and spec.model.ggufFile, and those of "
    "spec.scoring.implicit.referenceModel if there is one",
    Reason.MODEL_UNSUPPORTED: "set the spec.scoring.family that the checkpoint was trained for, or "
    "choose a model that the backend can load",
    Reason.MODEL_TOO_LONG: "lower spec.scoring.maxInputTokens",
}
"""Where a RewardModel has other fields to look at."""

SELF_TEST_FAILURES: Final = frozenset(
    {
        Reason.TOKEN_NOT_IN_VOCABULARY,
        Reason.SCORE_SHAPE_MISMATCH,
        Reason.NON_FINITE_SCORE,
        Reason.BATCH_MISMATCH,
    }
)
"""What a reward worker says when it does not score as its recipe says."""


def remedy(reason: kube.Reason, kind: kube.Kind) -> str:
    """What to do about a worker of that kind that gave that reason."""
    other = _REWARD_FAILURES if kind == kube.REWARDMODEL else {}
    return other.get(reason, LOAD_FAILURES[reason])
