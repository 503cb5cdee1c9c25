"""How long to wait before something that failed is tried again: pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A delay that doubles with every failure, and starts anew after good times.

    Attributes:
        base: the first delay, in seconds.
        cap: the longest delay, in seconds.
        forgive: seconds of good running after which failures are forgotten.
        failures: failures so far.
    """

    base: float = 10.0
    cap: float = 300.0
    forgive: float = 600.0
    failures: int = 0

    def failed(self, ran_seconds: float) -> "Backoff":
        """This back-off after one more failure, which came `ran_seconds` after the start."""
        failures = 1 if ran_seconds >= self.forgive else self.failures + 1
        return Backoff(self.base, self.cap, self.forgive, failures)

    @property
    def delay(self) -> float:
        """Seconds to wait now: the first failure is tried again at once."""
        if self.failures <= 1:
            return 0.0
        # The exponent is bounded because 2.0 ** 1024 overflows.
        return float(min(self.cap, self.base * 2 ** min(self.failures - 2, 32)))
