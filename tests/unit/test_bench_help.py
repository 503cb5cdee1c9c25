"""Every benchmark runs as `python bench/NAME.py`, with nothing set in the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = sorted((Path(__file__).parents[2] / "bench").glob("[a-z]*.py"))


@pytest.mark.parametrize("file", BENCHES, ids=lambda file: file.stem)
def test_bench_starts_by_itself(file: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(file), "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
