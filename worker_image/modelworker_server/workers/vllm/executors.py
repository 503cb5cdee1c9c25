"""What runs in the engine's own process, so that it ends when its worker ends and not before."""

import logging
import multiprocessing
import os
import threading
from typing import Any, Final

from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from modelworker_server.workers.vllm.failures import LastWords


class _Attached:
    """Prepares the engine's process before the model is loaded into it."""

    def _init_executor(self) -> None:
        # A signal to the group, such as Ctrl-C, is for the worker: it drains, and then ends
        # the engine, which would otherwise drop the requests at once.
        os.setpgid(0, 0)
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid is not None:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
            words = LastWords.of(parent.pid)
            logging.getLogger("vllm").addHandler(_Recorder(words))
        super()._init_executor()  # type: ignore[misc]


class OneProcess(_Attached, UniProcExecutor):  # type: ignore[misc]
    """The model in the engine's process."""


class ManyProcesses(_Attached, MultiprocExecutor):  # type: ignore[misc]
    """The model in children of the engine's process, which end with it."""


_OURS: Final[dict[type, type]] = {UniProcExecutor: OneProcess, MultiprocExecutor: ManyProcesses}


def executor_for(config: Any) -> type:
    """The executor that vLLM chooses for its configuration, prepared."""
    chosen: type = Executor.get_class(config)
    return _OURS.get(chosen, chosen)


class _Recorder(logging.Handler):
    """Keeps the first error that vLLM logs with its exception: the one that ends the start."""

    def __init__(self, words: LastWords) -> None:
        super().__init__(logging.ERROR)
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        """Write the exception down."""
        if record.exc_info and record.exc_info[1] is not None:
            self._words.write(record.exc_info[1])


def _end_with(parent: Any) -> None:
    """End this process as soon as its parent is gone, killed or not: nobody else would."""
    parent.join()
    os._exit(1)
