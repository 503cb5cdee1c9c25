"""Why the engine does not start, or refuses a request, in this worker's words."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from vllm.exceptions import VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError

from modelworker_api.wire import FailureReason
from modelworker_server.errors import BadRequest, LoadError, Unavailable
from modelworker_server.workers.code import not_run
from modelworker_server.workers.runner import out_of_memory

ENGINE_DIED: Final = "the engine died; send the request to another worker"

_SAID: Final = 500
"""Characters of an error that are told on."""
_MEMORY: Final = re.compile(
    r"out of memory|cannot allocate memory|no available memory|kv cache is needed"
    r"|less than desired gpu memory|not enough .*memory",
    re.IGNORECASE,
)
_KILLED: Final = re.compile(r"proc\(s\): \{[^}]*: -9\b")
"""What vLLM says when its process was killed: most often the kernel did, for memory."""
_TOO_LONG: Final = re.compile(r"max_model_len .* is greater than the derived")
_CODE: Final = re.compile(r"trust_remote_code|contains custom code")
"""What is said of a model that brings code along which may not run."""
_UNKNOWN: Final = re.compile(
    r"are not supported for now|does not recognize this architecture|no vllm implementation"
    r"|not supported by (vllm|transformers)|cannot find model module",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LastWords:
    """A file in which the engine's process leaves why it could not start.

    vLLM's own message to its parent says only that there was an error.
    """

    path: Path

    @classmethod
    def of(cls, pid: int) -> Self:
        """The file of the worker with that process id."""
        return cls(Path(tempfile.gettempdir()) / f"modelworker-engine-{pid}.txt")

    @classmethod
    def of_this_process(cls) -> Self:
        """The file for engines that this process starts."""
        return cls.of(os.getpid())

    def write(self, error: BaseException) -> None:
        """Leave an error, unless there is one: the first is the cause of those that follow."""
        with contextlib.suppress(OSError), self.path.open("x", encoding="utf-8") as file:
            file.write(sentence(error))

    def read(self) -> str:
        """What was left, empty if nothing was."""
        with contextlib.suppress(OSError):
            return self.path.read_text(encoding="utf-8")
        return ""

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def sentence(error: BaseException) -> str:
    """The type and the text of an error in one line; pydantic's own lines are left out."""
    text = re.sub(r"\[type=.*", "", str(error), flags=re.DOTALL)
    text = re.sub(r"^\d+ validation errors? for \w+\s+(Value error,)?", "", text)
    return f"{type(error).__name__}: {' '.join(text.split()) or '-'}"[:_SAID]


def start_failure(error: Exception, last_words: str) -> LoadError:
    """The `LoadError` of an engine that does not start.

    Args:
        error: What was raised here.
        last_words: What the engine's process said, empty if it said nothing.
    """
    if isinstance(error, LoadError):
        return error
    said = last_words or sentence(error)
    if out_of_memory(error) or _MEMORY.search(said) or _KILLED.search(said):
        return LoadError(
            FailureReason.INSUFFICIENT_MEMORY,
            f"the model and its KV cache do not fit into memory ({said}); give the worker more, "
            "or lower maxModelLen, or set vllm.kvCacheMemory or vllm.gpuMemoryUtilization",
        )
    if _TOO_LONG.search(said):
        return LoadError(FailureReason.MODEL_TOO_LONG, f"{said}; lower maxModelLen")
    if _CODE.search(said):
        return not_run()
    if _UNKNOWN.search(said):
        return LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"vLLM cannot run the model ({said}); backend Transformers may",
        )
    return LoadError(
        FailureReason.LOAD_FAILED, f"the engine did not start: {said}; the worker's log says more"
    )


@contextlib.contextmanager
def as_worker_errors() -> Iterator[None]:
    """Raise what the engine says of a request as one of this worker's errors."""
    try:
        yield
    except EngineDeadError as error:
        raise Unavailable(ENGINE_DIED) from error
    except (VLLMClientError, ValueError) as error:
        raise BadRequest(f"the engine refuses the request: {sentence(error)}") from error
