"""The next command for each reason that something is not ready. Pure."""

from typing import Final

from modelworker_api.kube import Reason

_WATCH: Final = "kubectl modelworker status {ref} -n {namespace} -w"
_EDIT: Final = "kubectl edit {ref} -n {namespace}"
_LOGS: Final = "kubectl modelworker logs {ref} -n {namespace}"
_LAST_LOGS: Final = "kubectl modelworker logs {ref} -n {namespace} --previous"
_DOCTOR: Final = "kubectl modelworker doctor {ref} -n {namespace}"
_DESCRIBE: Final = "kubectl describe {ref} -n {namespace}"
_OPERATOR_LOGS: Final = "kubectl modelworker logs --operator"
_SCALE: Final = "kubectl scale {ref} -n {namespace} --replicas=1"

NEXT_STEPS: Final = {
    Reason.INVALID_SPEC: _EDIT,
    Reason.CHILD_CONFLICT: _DESCRIBE,
    Reason.APPLY_FORBIDDEN: _OPERATOR_LOGS,
    Reason.APPLY_REJECTED: _EDIT,
    Reason.SCALED_TO_ZERO: _SCALE,
    Reason.ROLLOUT_IN_PROGRESS: _WATCH,
    Reason.PROGRESS_DEADLINE_EXCEEDED: _LOGS,
    Reason.REPLICAS_NOT_READY: _LOGS,
    Reason.INSUFFICIENT_GPU: _DOCTOR,
    Reason.UNSCHEDULABLE: _DOCTOR,
    Reason.VOLUME_CLAIM_NOT_FOUND: _DOCTOR,
    Reason.QUOTA_EXCEEDED: "kubectl describe quota -n {namespace}",
    Reason.POD_CREATION_FAILED: _DESCRIBE,
    Reason.IMAGE_PULL_FAILED: _EDIT,
    Reason.CONTAINER_CONFIG_ERROR: _DOCTOR,
    Reason.OUT_OF_MEMORY: _EDIT,
    Reason.CRASH_LOOP: _LAST_LOGS,
    Reason.STARTING: _WATCH,
    Reason.DOWNLOADING: _WATCH,
    Reason.LOADING: _WATCH,
    Reason.WARMING: _WATCH,
    Reason.HEARTBEAT_STALE: _OPERATOR_LOGS,
    Reason.MODEL_NOT_FOUND: _EDIT,
    Reason.MODEL_UNAUTHORIZED: _DOCTOR,
    Reason.MODEL_UNSUPPORTED: _EDIT,
    Reason.MODEL_TOO_LONG: _EDIT,
    Reason.DOWNLOAD_FAILED: _LOGS,
    Reason.INSUFFICIENT_MEMORY: _EDIT,
    Reason.LOAD_FAILED: _LAST_LOGS,
    Reason.TOKEN_NOT_IN_VOCABULARY: _EDIT,
    Reason.SCORE_SHAPE_MISMATCH: _EDIT,
    Reason.NON_FINITE_SCORE: _EDIT,
    Reason.BATCH_MISMATCH: _EDIT,
}
"""By the reason of `Ready` or `Accepted`."""


def next_step(reason: str, *, ref: str, namespace: str) -> str:
    """The command that helps on; for a reason that is not known, the one that tells more."""
    known = {one.value: step for one, step in NEXT_STEPS.items()}
    step = known.get(reason, _DOCTOR)
    return step.format(ref=ref, namespace=namespace)
