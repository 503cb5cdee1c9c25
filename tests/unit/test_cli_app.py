"""How a run ends, what is loaded for it, and what is completed."""

import os
import subprocess
import sys
from typing import Any

import pytest

from modelworker.cli._app import run
from modelworker.cli._complete import DEFAULT, NO_FILES, completions
from modelworker.cli._failures import Code, Failure
from modelworker.cli._verbs import VERBS
from modelworker_api import kube
from tests.cli_support import OBJECTS, FakeCluster, body, forbidden, interrupt, world

NO_CLUSTER = Failure("no cluster", Code.NO_ACCESS)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        pytest.param([], 0, "Usage: kubectl modelworker", "", id="nothing-is-help"),
        pytest.param(["-h"], 0, "Exit codes: 0; 1 not ready", "", id="short-help"),
        pytest.param(["status", "--help"], 0, "--all-namespaces", "", id="help-of-a-verb"),
        pytest.param(["nope"], 2, "", "Try `kubectl modelworker --help`.", id="unknown-verb"),
        pytest.param(
            ["status", "--nope"], 2, "", "Try `kubectl modelworker status --help`.", id="flag"
        ),
        pytest.param(["chat"], 2, "", "Missing argument 'NAME'", id="missing"),
        pytest.param(
            ["status", "-o", "xml"], 2, "", "for '-o' / '--output': 'xml' is not", id="choice"
        ),
        pytest.param(["status"], 3, "", "error: no cluster\n", id="no-cluster"),
        pytest.param(["status", "pod/x"], 3, "", "error: no cluster\n", id="cluster-comes-first"),
    ],
)
def test_code_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, out: str, err: str
) -> None:
    assert run(arguments, world(NO_CLUSTER)) == code
    said = capsys.readouterr()
    assert out in said.out
    assert err in said.err
    assert said.err.count("\n") == (1 if err else 0)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        pytest.param(forbidden("mw is forbidden"), 3, "mw is forbidden", id="forbidden"),
        pytest.param(interrupt, 130, "", id="ctrl-c"),
    ],
)
def test_what_the_api_server_says(
    capsys: pytest.CaptureFixture[str], answer: Any, code: int, words: str
) -> None:
    assert run(["status"], world({OBJECTS[kube.MODELWORKER]: answer})) == code
    assert words in capsys.readouterr().err


def test_kind_that_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"], world({})) == 1
    assert "does not know the kind ModelWorker: install the chart" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "namespace"),
    [
        pytest.param(["-n", "a", "status"], "a", id="before-the-verb"),
        pytest.param(["status", "-n", "a"], "a", id="after-the-verb"),
        pytest.param(["-n", "a", "status", "-n", "b"], "b", id="the-verb's-own-wins"),
        pytest.param(["status"], "ns", id="of-the-context"),
    ],
)
def test_namespace(arguments: list[str], namespace: str) -> None:
    fake = FakeCluster({})
    run(arguments, world(fake))
    assert fake.asked[0][0].split("/")[-2] == namespace


COMPLETED = {
    OBJECTS[kube.MODELWORKER]: [body("policy"), body("other")],
    OBJECTS[kube.REWARDMODEL]: [body("prm", kube.REWARDMODEL)],
    "/api/v1/namespaces": [{"metadata": {"name": "research"}}],
}


@pytest.mark.parametrize(
    ("words", "found", "directive"),
    [
        pytest.param(["status", ""], ["other", "policy", "prm"], NO_FILES, id="names"),
        pytest.param(["status", "prm", "p"], ["policy", "prm"], NO_FILES, id="more-names"),
        pytest.param(["status", "rwm/"], ["rwm/prm"], NO_FILES, id="names-of-a-kind"),
        pytest.param(["status", "pod/"], [], NO_FILES, id="no-kind"),
        pytest.param(["chat", "p"], ["policy"], NO_FILES, id="language-models"),
        pytest.param(["score", ""], ["prm"], NO_FILES, id="reward-models"),
        pytest.param(["status", "-n", ""], ["research"], NO_FILES, id="namespaces"),
        pytest.param(["status", "-o", "j"], ["json"], NO_FILES, id="choices"),
        pytest.param(["status", "--kubeconfig", ""], [], DEFAULT, id="files"),
        pytest.param(["top", "--acc"], ["--access"], NO_FILES, id="flags"),
        pytest.param(["w"], ["wait"], NO_FILES, id="verbs"),
    ],
)
def test_completions(words: list[str], found: list[str], directive: int) -> None:
    lines, code = completions(words, world(COMPLETED))
    assert ([line.partition("\t")[0] for line in lines], code) == (found, directive)


def test_all_verbs_are_completed_with_their_help() -> None:
    lines, _ = completions([""], world())
    assert [line.partition("\t")[0] for line in lines] == [verb.__name__ for verb in VERBS]
    assert all(line.partition("\t")[2] for line in lines)


def test_completion_without_a_cluster_has_nothing_to_offer() -> None:
    assert completions(["status", ""], world(NO_CLUSTER)) == ([], NO_FILES)


def python(code: str, *flags: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        pytest.param(
            ["--help"], ("httpx", "kubernetes", "rich", "torch", "yaml"), id="help-is-light"
        ),
        pytest.param(
            ["generate", "x", "--pvc", "m"], ("httpx", "kubernetes", "rich", "torch"), id="generate"
        ),
        pytest.param(["status", "--kubeconfig=/none"], ("httpx", "torch"), id="status"),
    ],
)
def test_nothing_is_loaded_in_vain(arguments: list[str], unwanted: tuple[str, ...]) -> None:
    code = (
        f"import sys; from modelworker.cli import main; sys.argv[1:] = {arguments!r}; main(); "
        f"print([name for name in {unwanted!r} if name in sys.modules], file=sys.stderr)"
    )
    assert python(code).stderr.splitlines()[-1] == "[]"


def test_without_the_extra_it_says_how_to_get_it() -> None:
    code = (
        "import sys; from importlib import machinery\n"
        "find = machinery.PathFinder.find_spec\n"
        "machinery.PathFinder.find_spec = staticmethod("
        "lambda name, *more: None if name in ('typer', 'rich') else find(name, *more))\n"
        "from modelworker.cli import complete, main\n"
        "print(main(), complete())"
    )
    done = python(code)
    assert done.stdout == "1 1\n", done.stderr
    assert done.stderr.splitlines()[0] == (
        "error: rich, typer is missing: pip install 'modelworker[cli]'"
    )


def test_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "modelworker.cli", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_functions_call_the_script(shell: str) -> None:
    """Its name is one word where people type two."""
    done = subprocess.run(
        [sys.executable, "-m", "modelworker.cli", "--show-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "_KUBECTL_MODELWORKER_COMPLETE=complete_" in done.stdout, done.stderr
    assert "kubectl-modelworker" in done.stdout
