"""The client: call the language models and reward models of a cluster, by name.

from modelworker import LM, RMCall

lm = LM("policy", namespace="research")
answer = lm.generate("What is 2+2?", max_tokens=64, temperature=0).text
print(RMCall("prm", namespace="research").score(("What is 2+2?", answer)))
"""

from modelworker._aio import AsyncLM
from modelworker._batches import Batch
from modelworker._batches_aio import AsyncBatch
from modelworker._beams import Beam
from modelworker._errors import (
    AccessDenied,
    CallTimeout,
    Cancelled,
    ClusterUnavailable,
    ContextTooLong,
    InputTooLong,
    InvalidRequest,
    ModelNotServed,
    ModelWorkerError,
    ModelWorkerNotFound,
    NoCluster,
    NotInstalled,
    NotReady,
    Overloaded,
    PartialBatch,
    Rejected,
    RevisionChanged,
    ScoreError,
    StreamInterrupted,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkerFailed,
)
from modelworker._lm import LM
from modelworker._results import Chunk, Generation, Sample, Usage
from modelworker._rm import RMCall
from modelworker._rm_aio import AsyncRMCall
from modelworker._scores import Score, StepScore

__all__ = [
    "LM",
    "AccessDenied",
    "AsyncBatch",
    "AsyncLM",
    "AsyncRMCall",
    "Batch",
    "Beam",
    "CallTimeout",
    "Cancelled",
    "Chunk",
    "ClusterUnavailable",
    "ContextTooLong",
    "Generation",
    "InputTooLong",
    "InvalidRequest",
    "ModelNotServed",
    "ModelWorkerError",
    "ModelWorkerNotFound",
    "NoCluster",
    "NotInstalled",
    "NotReady",
    "Overloaded",
    "PartialBatch",
    "RMCall",
    "Rejected",
    "RevisionChanged",
    "Sample",
    "Score",
    "ScoreError",
    "StepScore",
    "StreamInterrupted",
    "Unavailable",
    "Unreachable",
    "Unsupported",
    "Usage",
    "WorkerFailed",
]
