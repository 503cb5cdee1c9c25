"""No process of a cluster outlives its owner, whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.processes import Processes
from tests.support import eventually

# A child that leaves its session and whose parent ends: nobody's, unless there is a subreaper.
ORPHAN = "(setsid sleep 1000 & echo $!) ; exec sleep 1000"
ENVIRONMENT = dict(os.environ)

OWNER = """
import json, os, signal, sys
from pathlib import Path
import psutil
from modelworker_devcluster.processes import Processes
folder = Path(sys.argv[1])
processes = Processes(folder / "supervisor.log", remove=folder / "removed")
processes.start("a", ["sh", "-c", sys.argv[2]], log=folder / "a.log", env=dict(os.environ))
if sys.argv[3] == "fork" and os.fork() == 0:
    signal.pause()
print(json.dumps([child.pid for child in psutil.Process().children()]), flush=True)
signal.pause()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path / "supervisor.log")
    yield made
    made.close()


def start(processes: Processes, folder: Path, script: str, name: str = "a") -> int:
    return processes.start(name, ["sh", "-c", script], log=folder / f"{name}.log", env=ENVIRONMENT)


def orphan_of(log: Path) -> int:
    return int(eventually(log.read_text, until=lambda text: text.endswith("\n"), what="a pid"))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_runs_with_its_log_and_its_exit_code(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes, tmp_path, "echo out; echo err >&2; exit 3")
    eventually(processes.codes, until=lambda codes: codes == {"a": 3}, what="exit code 3")
    assert (tmp_path / "a.log").read_text() == "out\nerr\n"


def test_stop_asks_first_and_kills_what_does_not_listen(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes, tmp_path, "trap 'exit 5' TERM; echo; while :; do sleep 0.02; done", "polite")
    start(processes, tmp_path, "trap '' TERM; echo; while :; do sleep 0.02; done", "deaf")
    for name in ("polite", "deaf"):
        eventually((tmp_path / f"{name}.log").read_text, what=f"{name}'s trap")
    processes.stop(("polite", "deaf", "never-started"), timeout=0.5)
    assert processes.codes() == {"polite": 5, "deaf": -signal.SIGKILL}


def test_a_name_can_be_started_again_once_it_ended(processes: Processes, tmp_path: Path) -> None:
    start(processes, tmp_path, "sleep 1000")
    with pytest.raises(DevClusterError, match="a runs already"):
        start(processes, tmp_path, "sleep 1000")
    processes.kill("a")
    assert runs(start(processes, tmp_path, "sleep 1000"))


def test_what_cannot_start_is_said(processes: Processes, tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match=r"cannot start x: .*No such file"):
        processes.start("x", ["/nonexistent"], log=tmp_path / "x.log", env=ENVIRONMENT)


def test_an_interrupted_request_does_not_shift_the_answers(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes, tmp_path, "sleep 1000")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for microseconds in range(50, 1000, 10):  # some of them between question and answer
            try:
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                while True:
                    processes.codes()
            except KeyboardInterrupt:
                assert processes.codes() == {"a": None}
    finally:
        signal.signal(signal.SIGALRM, before)


def test_control_groups_go_with_those_below_them(tmp_path: Path) -> None:
    # Folders without files, as the kernel shows groups: only rmdir removes one.
    group, stays = tmp_path / "group", tmp_path / "stays"
    (group / "pods" / "one").mkdir(parents=True)
    (group / "pods" / "two").mkdir()
    stays.mkdir()
    made = Processes(tmp_path / "log", cgroups=(group, tmp_path / "missing"))
    start(made, tmp_path, "exec sleep 1000")
    made.close()
    assert not group.exists()
    assert stays.exists()


def test_close_ends_children_orphans_and_guarded_processes(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "supervisor.log")
    child = start(processes, tmp_path, ORPHAN)
    orphan = orphan_of(tmp_path / "a.log")
    with subprocess.Popen(["sleep", "1000"]) as guarded:
        processes.guard(guarded.pid)
        processes.close()
        assert guarded.wait(10) == -signal.SIGKILL
    assert not runs(child)
    assert not runs(orphan)
    with pytest.raises(DevClusterError, match="was stopped"):
        processes.codes()


@pytest.mark.parametrize("forks", ["alone", "fork"])
def test_a_killed_owner_leaves_nothing(tmp_path: Path, forks: str) -> None:
    (tmp_path / "removed").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), ORPHAN, forks],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as owner:
        assert owner.stdout is not None
        started = json.loads(owner.stdout.readline())
        orphan = orphan_of(tmp_path / "a.log")
        supervisor = psutil.Process(started[0])
        family = [supervisor, *supervisor.children(recursive=True), psutil.Process(orphan)]
        owner.kill()
        eventually(lambda: not any(runs(process.pid) for process in family), what="end of all")
        eventually(lambda: not (tmp_path / "removed").exists(), what="removed folder")
        for fork in started[1:]:
            os.kill(fork, signal.SIGKILL)


def test_a_killed_supervisor_takes_its_children_with_it(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "supervisor.log")
    child = start(processes, tmp_path, "exec sleep 1000")
    psutil.Process(child).parent().kill()  # type: ignore[union-attr]
    eventually(lambda: not runs(child), what="end of the child")
    with pytest.raises(DevClusterError, match="supervisor process was killed"):
        processes.codes()
    processes.close()
