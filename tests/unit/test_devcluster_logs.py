"""Finding and reading the logs of components and pods."""

import threading
from pathlib import Path

import pytest

from modelworker_devcluster import logs
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import Layout
from tests.support import eventually


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    for name in (
        "logs/etcd.log",
        "kubelet/pods/default_one_u1/main.log",
        "kubelet/pods/default_one_u1/main.previous.log",
        "kubelet/pods/other_two_u2/a.log",
        "kubelet/pods/other_two_u2/b.log",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return made


@pytest.mark.parametrize(
    ("what", "options", "found"),
    [
        pytest.param("etcd", {}, "logs/etcd.log", id="component"),
        pytest.param("one", {}, "kubelet/pods/default_one_u1/main.log", id="only-container"),
        pytest.param(
            "one",
            {"previous": True},
            "kubelet/pods/default_one_u1/main.previous.log",
            id="previous",
        ),
        pytest.param(
            "two",
            {"namespace": "other", "container": "b"},
            "kubelet/pods/other_two_u2/b.log",
            id="one-of-two",
        ),
    ],
)
def test_a_log_is_found(layout: Layout, what: str, options: dict[str, str], found: str) -> None:
    assert logs.find(layout, what, **options).read_text() == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        pytest.param("three", {}, r"there are: etcd, one \(-n default\), two", id="unknown"),
        pytest.param("two", {}, "no component or pod two in default", id="other-namespace"),
        pytest.param("two", {"namespace": "other"}, "a, b; choose one with -c", id="ambiguous"),
        pytest.param("one", {"container": "x"}, "containers with a log: main", id="container"),
        pytest.param(
            "two",
            {"namespace": "other", "previous": True},
            "with a previous log: none",
            id="never-restarted",
        ),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    layout: Layout, what: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DevClusterError, match=message):
        logs.find(layout, what, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tail", "lines"),
    [
        pytest.param(None, ["1\n", "2\n", "3"], id="all"),
        pytest.param(2, ["2\n", "3"], id="tail"),
        pytest.param(9, ["1\n", "2\n", "3"], id="more-than-there-is"),
        pytest.param(0, [], id="none"),
    ],
)
def test_the_last_lines_are_read(tmp_path: Path, tail: int | None, lines: list[str]) -> None:
    file = tmp_path / "x.log"
    file.write_text("1\n2\n3")
    assert list(logs.read(file, tail=tail)) == lines


def test_following_goes_on_over_a_restart_until_the_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "main.log"
    file.write_text("first\n")
    watched: list[str] = []
    reader = threading.Thread(target=lambda: watched.extend(logs.read(file, follow=True)))
    reader.start()
    with file.open("a") as opened:
        opened.write("second\n")
    eventually(lambda: watched, until=lambda lines: "second\n" in lines, what="a new line")
    file.rename(tmp_path / "main.previous.log")
    file.write_text("third\n")
    eventually(lambda: watched, until=lambda lines: "third\n" in lines, what="the new run's line")
    file.unlink()
    reader.join(10)
    assert not reader.is_alive()
    assert watched == ["first\n", "second\n", "third\n"]
