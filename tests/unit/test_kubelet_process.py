"""Containers as processes: real ones, started and ended through their shim."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelworker_devcluster.kubelet.process import Command, Process, StartError, run
from tests.support import eventually


def shell(script: str, folder: Path) -> Command:
    return Command(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, folder)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def written(path: Path) -> str:
    return eventually(lambda: path.read_text().strip(), what=f"text in {path.name}")


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        pytest.param("echo out; echo err >&2", 0, "out\nerr", id="success"),
        pytest.param("exit 7", 7, "", id="exit-code"),
        pytest.param("kill -9 $$", 137, "", id="signal"),
        pytest.param("cat", 0, "", id="no-input"),
    ],
)
def test_run(tmp_path: Path, script: str, code: int, output: str) -> None:
    done = asyncio.run(run(shell(script, tmp_path), pid_file=tmp_path / "pid", timeout=30))
    assert done == (code, output)


def test_run_ends_what_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(
            run(shell("echo $$ > p; sleep 60", tmp_path), pid_file=tmp_path / "pid", timeout=0.5)
        )
    assert not alive(int((tmp_path / "p").read_text()))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(["no-such-program"], "executable file not found", id="name"),
        pytest.param(["./no-such-program"], "executable file not found", id="path"),
    ],
)
def test_unknown_program(tmp_path: Path, command: list[str], message: str) -> None:
    with pytest.raises(StartError, match=message):
        asyncio.run(
            run(Command(command, {"PATH": "/bin"}, tmp_path), pid_file=tmp_path / "p", timeout=5)
        )


def test_unknown_folder(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="is not a directory"):
        asyncio.run(run(shell("true", tmp_path / "no"), pid_file=tmp_path / "p", timeout=5))


def test_terminate_reaches_the_command_and_kill_everything(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        codes = []
        for trap, end in (("exit 5", Process.terminate), ("", Process.kill)):
            script = f"trap '{trap}' TERM; setsid sleep 60 & echo $! > child; echo $$ > main; wait"
            for name in ("child", "main"):
                (tmp_path / name).write_text("")
            process = await Process.start(
                shell(script, tmp_path), log=tmp_path / "log", pid_file=tmp_path / "pid"
            )
            main = int(await asyncio.to_thread(written, tmp_path / "main"))
            assert int(await asyncio.to_thread(written, tmp_path / "pid")) == main
            end(process)
            codes.append(await asyncio.wait_for(process.wait(), 10))
            # It left the session, and was found all the same.
            assert not alive(int((tmp_path / "child").read_text()))
        return codes

    assert asyncio.run(scenario()) == [5, 137]
    assert not (tmp_path / "pid").exists()


def test_nothing_outlives_a_kubelet_that_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from modelworker_devcluster.kubelet.process import Command, Process

async def main() -> None:
    folder = Path(sys.argv[1])
    script = "sleep 60 & echo $! > child; wait"
    command = Command(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, folder)
    process = await Process.start(command, log=folder / "log", pid_file=folder / "pid")
    await process.wait()

asyncio.run(main())
"""
    (tmp_path / "child").write_text("")
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], env=os.environ | {"PYTHONPATH": path}
    ) as parent:
        pids = [int(written(tmp_path / name)) for name in ("child", "pid")]
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)), what=f"end of {pids}")
