"""A command whose output is read as it comes: how it ends."""

from pathlib import Path

import pytest

from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.gobuild import run_command


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(["sh", "-c", "echo why; exit 3"], "exit code 3:\nwhy", id="fails"),
        pytest.param(["/nonexistent/go"], "cannot run /nonexistent/go", id="missing"),
    ],
)
def test_a_command_that_fails_says_why(tmp_path: Path, command: list[str], message: str) -> None:
    with pytest.raises(SourceFailed, match=message):
        list(run_command(command, tmp_path, {"PATH": "/usr/bin:/bin"}))


def test_a_command_that_ends_after_its_output_is_not_ended(tmp_path: Path) -> None:
    command = ("sh", "-c", "echo said; exec >&- 2>&-; sleep 0.2; touch done")
    assert list(run_command(command, tmp_path, {"PATH": "/usr/bin:/bin"})) == ["said"]
    assert (tmp_path / "done").exists()


def test_a_command_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    command = ("sh", "-c", "echo $$; exec sleep 600")
    lines = run_command(command, tmp_path, {"PATH": "/usr/bin:/bin"})
    pid = next(lines)
    lines.close()  # type: ignore[attr-defined]
    assert not Path("/proc", pid).exists()
