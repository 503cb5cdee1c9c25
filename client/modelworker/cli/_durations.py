"""Durations as kubectl takes them: `90s`, `5m`, `1h30m`. Pure."""

import re
from typing import Final

from modelworker.cli._failures import Code, Failure

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"(\d+)([smhd])")


def seconds_of(duration: str) -> int:
    """Seconds of `90s`, `5m`, `1h30m`.

    Raises:
        Failure: if it is no such duration.
    """
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise Failure(f"{duration!r} is no duration; write it like 90s, 5m or 1h30m", Code.USAGE)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
