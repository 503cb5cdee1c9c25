"""What `doctor` finds. Pure."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from modelworker.cli._output import compact


class Level(StrEnum):
    """How a check went."""

    OK = "OK"
    WARN = "WARN"
    """It may be in the way of something, or it could not be looked at."""
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `step` is what to do where it is not OK."""

    check: str
    level: Level
    message: str
    step: str | None = None

    def data(self) -> dict[str, Any]:
        """For `-o json`."""
        return compact(asdict(self))
