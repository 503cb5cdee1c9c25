"""`make demo`, as a user runs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_demo_exits_zero() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/demo.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=560,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "every step held" in done.stdout
