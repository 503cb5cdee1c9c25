"""Names in Kubernetes: API group, kinds, labels, ports, conditions and their reasons."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GROUP: Final = "modelworker.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A custom resource of this group."""

    kind: str
    plural: str
    short: str


MODELWORKER: Final = Kind("ModelWorker", "modelworkers", "mw")
REWARDMODEL: Final = Kind("RewardModel", "rewardmodels", "rwm")
KINDS: Final = (MODELWORKER, REWARDMODEL)

FIELD_MANAGER: Final = "modelworker-operator"
"""The one server-side-apply manager of every child and of `/status`."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "modelworker"
LABEL_KIND: Final = f"{GROUP}/kind"
LABEL_NAME: Final = f"{GROUP}/name"
LABEL_SERVICE: Final = "kubernetes.io/service-name"
LABEL_SLICE_MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
"""On an EndpointSlice: the Service that it is for, and who keeps it."""
ANNOTATION_DESIRED_HASH: Final = f"{GROUP}/desired-hash"
"""On each child: the hash of the manifest that was applied last."""

WORKER_CONTAINER: Final = "worker"
WORKER_PORT: Final = 8000
WORKER_PORT_NAME: Final = "http"
HEARTBEAT_PORT: Final = 8085
HEARTBEAT_PORT_NAME: Final = "heartbeat"
CONTROLLER_PORT_NAME: Final = "controller"
"""Names of the ports of the operator's Service; the second one is FastChat's controller."""
HEALTH_PORT: Final = 8086

HEARTBEAT_AUDIENCE: Final = f"{GROUP}/heartbeat"
HEARTBEAT_PATH: Final = "/v1/heartbeat"
HEARTBEAT_TOKEN_DIR: Final = f"/var/run/secrets/{GROUP}/heartbeat"
HEARTBEAT_TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file
INFERENCE_AUDIENCE: Final = f"{GROUP}/inference"
"""Audience of the service-account tokens that callers of a worker show."""
INFERENCE_TOKEN_DIR: Final = f"/var/run/secrets/{GROUP}/inference"
"""Where a caller's pod mounts such a token, as a projected volume, for clients to find it."""
INFERENCE_TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file
MODEL_DIR: Final = "/models"
"""Where a `pvc` or `hostPath` source is mounted in the worker container."""
REFERENCE_DIR: Final = "/reference"
"""Where the `pvc` or `hostPath` source of a reward model's reference model is mounted."""

LEASE_NAME: Final = "modelworker-operator"
MAX_NAME_LENGTH: Final = 50
"""Longest name of a custom resource; leaves room for the prefix of child names."""


class ConditionType(StrEnum):
    """The condition types; all have positive polarity.

    ScoringVerified is a RewardModel's, AdaptersLoaded that of a ModelWorker with adapters.
    """

    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    SCORING_VERIFIED = "ScoringVerified"
    ADAPTERS_LOADED = "AdaptersLoaded"
    READY = "Ready"


class Reason(StrEnum):
    """Every `reason` that a condition or an Event can carry."""

    # Accepted
    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    CHILD_CONFLICT = "ChildConflict"
    APPLY_FORBIDDEN = "ApplyForbidden"
    APPLY_REJECTED = "ApplyRejected"
    # Available
    MINIMUM_REPLICAS_AVAILABLE = "MinimumReplicasAvailable"
    REPLICAS_UNAVAILABLE = "ReplicasUnavailable"
    SCALED_TO_ZERO = "ScaledToZero"
    # Progressing
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    ROLLOUT_COMPLETE = "RolloutComplete"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # AdaptersLoaded
    ADAPTERS_LOADED = "AdaptersLoaded"
    ADAPTERS_LOADING = "AdaptersLoading"
    ADAPTER_FAILED = "AdapterFailed"
    # Ready: True
    ALL_REPLICAS_READY = "AllReplicasReady"
    # Ready: why not. Each is given only when its evidence was seen in a pod.
    REPLICAS_NOT_READY = "ReplicasNotReady"
    INSUFFICIENT_GPU = "InsufficientGPU"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_CLAIM_NOT_FOUND = "VolumeClaimNotFound"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_CREATION_FAILED = "PodCreationFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOP = "CrashLoop"
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    WARMING = "Warming"
    HEARTBEAT_STALE = "HeartbeatStale"
    # Ready: the worker's own word (see FailureReason), passed through.
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNAUTHORIZED = "ModelUnauthorized"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    MODEL_TOO_LONG = "ModelTooLong"
    DOWNLOAD_FAILED = "DownloadFailed"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    LOAD_FAILED = "LoadFailed"
    # ScoringVerified
    SELF_TEST_PASSED = "SelfTestPassed"
    RECIPE_NOT_COMPARED = "RecipeNotCompared"
    NOT_TESTED = "NotTested"
    # ScoringVerified, and Ready: the worker's own word on its self-test.
    TOKEN_NOT_IN_VOCABULARY = "TokenNotInVocabulary"  # noqa: S105 - no password
    SCORE_SHAPE_MISMATCH = "ScoreShapeMismatch"
    NON_FINITE_SCORE = "NonFiniteScore"
    BATCH_MISMATCH = "BatchMismatch"


class WorkerState(StrEnum):
    """`status.workers[].state`. Clients route to `Ready` and to nothing else."""

    PENDING = "Pending"
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"
