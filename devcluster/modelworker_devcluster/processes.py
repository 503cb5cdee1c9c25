"""The processes of one cluster, seen from the process that owns it."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from modelworker_devcluster import settings
from modelworker_devcluster.errors import DevClusterError

_SUPERVISOR = settings.PACKAGE / "supervisor.py"


class Processes:
    """Child processes that cannot outlive this process.

    They are children of a supervisor (see `supervisor.py`), each in a session of
    its own, so that Ctrl-C in a terminal reaches none of them.
    """

    def __init__(
        self, log: Path, *, remove: Path | None = None, cgroups: Sequence[Path] = ()
    ) -> None:
        """Start the supervisor.

        Args:
            log: file for what the supervisor itself has to say.
            remove: folder that the supervisor removes when all processes are gone.
            cgroups: control groups that it removes then, with all below them.
        """
        self._lock = threading.Lock()
        self._asked = 0
        with log.open("ab") as stderr:
            self._supervisor = subprocess.Popen(
                [sys.executable, str(_SUPERVISOR), str(remove or ""), *map(str, cgroups)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

    def start(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str]) -> int:
        """Start a process that appends its output to `log`.

        Returns:
            Its process id, which is its process group's id too.

        Raises:
            DevClusterError: it cannot be started.
        """
        request = {
            "do": "start",
            "name": name,
            "argv": list(argv),
            "log": str(log),
            "env": dict(env),
        }
        return cast("int", self._ask(request)["pid"])

    def codes(self) -> dict[str, int | None]:
        """The exit code of every process started, None for one that runs."""
        return cast("dict[str, int | None]", self._ask({"do": "codes"})["codes"])

    def guard(self, pid: int) -> None:
        """Have another process killed too, with its descendants, when all ends."""
        self._ask({"do": "guard", "pid": pid})

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL and return when it is gone."""
        self._signal(name, signal.SIGKILL)
        self._wait((name,), 10.0)

    def stop(self, names: Sequence[str], *, timeout: float) -> None:
        """End processes with SIGTERM, those that still run after `timeout` seconds with SIGKILL."""
        for name in names:
            self._signal(name, signal.SIGTERM)
        for name in self._wait(names, timeout):
            self.kill(name)

    def close(self) -> None:
        """Kill what still runs and end the supervisor."""
        with self._lock:
            for pipe in (self._supervisor.stdin, self._supervisor.stdout):
                if pipe is not None:
                    # What could not be sent to a killed supervisor is sent again here.
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._supervisor.wait()

    def _signal(self, name: str, number: signal.Signals) -> None:
        self._ask({"do": "signal", "name": name, "signal": int(number)})

    def _wait(self, names: Sequence[str], timeout: float) -> list[str]:
        deadline = time.monotonic() + timeout
        while True:
            codes = self.codes()
            running = [name for name in names if name in codes and codes[name] is None]
            if not running or time.monotonic() > deadline:
                return running
            time.sleep(0.02)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                stdin, stdout = self._supervisor.stdin, self._supervisor.stdout
                if stdin is None or stdout is None or stdin.closed:
                    raise DevClusterError("the cluster was stopped; start a new one")
                self._asked += 1
                stdin.write(json.dumps(request | {"id": self._asked}).encode() + b"\n")
                stdin.flush()
                answer: dict[str, Any] = {}
                while answer.get("id") != self._asked:
                    # Ctrl-C may have cut off an earlier request: its answer is still there.
                    answer = json.loads(stdout.readline())
            except (BrokenPipeError, json.JSONDecodeError) as error:
                raise DevClusterError(
                    "the cluster's supervisor process was killed, and its processes with it; "
                    "start a new cluster"
                ) from error
        if "error" in answer:
            raise DevClusterError(
                f"cannot {request['do']} {request.get('name', '')}: {answer['error']}"
            )
        return answer
