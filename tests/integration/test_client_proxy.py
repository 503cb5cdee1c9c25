"""LM through the API server's proxy, in a network of its own: the API server refuses loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proxy_cases import POD_HOST

ROOT = Path(__file__).parents[2]
SET_UP = f'ip link set lo up && ip addr add {POD_HOST}/32 dev lo && exec "$@"'


ALONE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def _may_be_alone() -> bool:
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may_be_alone(), reason="no right to make a network namespace")
def test_lm_through_a_real_api_server() -> None:
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/proxy_cases.py"]
    done = subprocess.run(
        [*ALONE, "sh", "-c", SET_UP, "sh", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-4000:]}"
