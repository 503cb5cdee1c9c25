"""What the benchmarks share: `--quick`, one table, and the JSON object of the last line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# devcluster is a folder of this repository and in no wheel.
sys.path.insert(0, str(ROOT / "devcluster"))


def quick(description: str | None) -> bool:
    """Parse the command line: whether a short run was asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short run with fewer repetitions")
    return bool(parser.parse_args().quick)


def report(
    rows: Sequence[tuple[str, float]],
    *,
    bench: str,
    value: float,
    unit: str,
    baseline: float,
    ratio: float,
    **more: object,
) -> None:
    """Print the table, and as the last line one JSON object."""
    width = max(len(name) for name, _ in rows)
    for name, number in rows:
        print(f"{name:<{width}}  {number:>12,.3f} {unit}")
    print(f"{'ratio':<{width}}  {ratio:>12,.3f}")
    numbers = {"value": value, "unit": unit, "baseline": baseline, "ratio": ratio}
    print(json.dumps({"bench": bench, **numbers, **more}))
