"""Progress on a terminal, silence elsewhere."""

import logging

import pytest

from modelworker import _progress


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [pytest.param(None, False, id="no-terminal"), pytest.param(True, True, id="asked-for")],
)
def test_waiting(
    wanted: bool | None,
    shown: bool,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), _progress.waiting("policy", wanted) as show:
        show("Loading: pod a", 40)
        show("Loading: pod a", 60)
        show("Warming: pod a", None)
    said = capsys.readouterr().err
    assert ("policy: Loading: pod a  40%" in said) is shown
    assert ("policy: Warming: pod a" in said) is shown
    assert [record.message for record in caplog.records] == [
        "waiting for policy: Loading: pod a",
        "waiting for policy: Warming: pod a",
    ]


@pytest.mark.parametrize(
    ("total", "wanted", "shown"),
    [
        pytest.param(3, None, False, id="no-terminal"),
        pytest.param(3, False, False, id="not-wanted"),
        pytest.param(1, True, False, id="one-is-no-batch"),
        pytest.param(3, True, True, id="asked-for"),
    ],
)
def test_counting(
    total: int, wanted: bool | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with _progress.counting("policy", total, wanted) as advance:
        for _ in range(total):
            advance()
    assert ("3/3" in capsys.readouterr().err) is shown
