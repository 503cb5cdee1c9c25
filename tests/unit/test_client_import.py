"""`import modelworker`: what it offers, and how little it loads."""

import subprocess
import sys

import modelworker

CODE = """
import sys, time
started = time.process_time()
import modelworker
print(time.process_time() - started)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_it_is_quick_and_loads_nothing_heavy() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(3)
    ]
    loaded = set(runs[0][1].split())
    assert not loaded & {"torch", "transformers", "kopf", "fastapi", "kubernetes", "httpx"}
    assert min(float(run[0]) for run in runs) < 0.5  # of processor time


def test_public_names() -> None:
    assert modelworker.__all__ == [
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
    assert all(hasattr(modelworker, name) for name in modelworker.__all__)
