"""Kubernetes quantities, such as 500m and 8Gi, as numbers: pure."""

from decimal import Decimal, InvalidOperation
from typing import Final

_SUFFIXES: Final = {
    **{letter: Decimal(1000) ** power for power, letter in enumerate("num", start=-3)},
    "k": Decimal(1000),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", start=2)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number; NaN, equal to nothing, if it is none."""
    cut = next((n for n in (2, 1) if text[-n:] in _SUFFIXES), 0)
    try:
        number = Decimal(text[: len(text) - cut])
    except InvalidOperation:
        return Decimal("NaN")
    return number * _SUFFIXES[text[-cut:]] if cut else number
