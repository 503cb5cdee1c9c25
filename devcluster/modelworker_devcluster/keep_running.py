"""Runs a command and starts it again when it ends: `python keep_running.py CMD ...`.

The pause before a restart doubles from half a second to ten, and begins anew after a
minute of running. SIGTERM ends the command and then this process.
"""

import signal
import subprocess
import sys
import time

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_HEALTHY_S = 60.0


def main(command: list[str]) -> None:
    """Keep `command` running until SIGTERM."""
    # An exception: a handler that waits itself would wait for the wait it interrupts.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    pause = _FIRST_PAUSE_S
    while True:
        started = time.monotonic()
        code = _run(command)
        if time.monotonic() - started > _HEALTHY_S:
            pause = _FIRST_PAUSE_S
        print(f"ended with {code}; starting it again in {pause} s", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _run(command: list[str]) -> int:
    child = subprocess.Popen(command)
    try:
        return child.wait()
    finally:
        if child.returncode is None:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
