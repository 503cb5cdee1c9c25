"""A command that is kept running, and ends when it is told to."""

import signal
import subprocess
import sys
from pathlib import Path

from modelworker_devcluster import keep_running
from tests.support import eventually


def test_it_is_started_again_and_ends_on_sigterm(tmp_path: Path) -> None:
    runs, ended = tmp_path / "runs", tmp_path / "ended"
    script = (
        f"echo >> {runs}; [ $(wc -l < {runs}) = 1 ] && exit 3; "
        f"trap 'touch {ended}; exit 0' TERM; echo >> {runs}; while :; do sleep 0.02; done"
    )
    with subprocess.Popen(
        [sys.executable, keep_running.__file__, "sh", "-c", script], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"ended with 3; starting it again" in process.stderr.readline()
        eventually(
            runs.read_text, until=lambda text: text.count("\n") == 3, what="the second run's trap"
        )
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    assert ended.exists()
