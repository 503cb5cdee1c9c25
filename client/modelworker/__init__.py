"""The client: call the language models that ModelWorkers serve, by name.

from modelworker import LM

lm = LM("policy", namespace="research")
print(lm.generate("The capital of France is", max_tokens=8, temperature=0).text)
"""

from modelworker._aio import AsyncLM
from modelworker._errors import (
    AccessDenied,
    CallTimeout,
    ClusterUnavailable,
    ContextTooLong,
    InvalidRequest,
    ModelNotServed,
    ModelWorkerError,
    ModelWorkerNotFound,
    NoCluster,
    NotInstalled,
    NotReady,
    Overloaded,
    Rejected,
    StreamInterrupted,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkerFailed,
)
from modelworker._lm import LM
from modelworker._results import Chunk, Generation, Sample, Usage

__all__ = [
    "LM",
    "AccessDenied",
    "AsyncLM",
    "CallTimeout",
    "Chunk",
    "ClusterUnavailable",
    "ContextTooLong",
    "Generation",
    "InvalidRequest",
    "ModelNotServed",
    "ModelWorkerError",
    "ModelWorkerNotFound",
    "NoCluster",
    "NotInstalled",
    "NotReady",
    "Overloaded",
    "Rejected",
    "Sample",
    "StreamInterrupted",
    "Unavailable",
    "Unreachable",
    "Unsupported",
    "Usage",
    "WorkerFailed",
]
