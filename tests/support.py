"""What the tests share: polling with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T],
    *,
    until: Callable[[T], bool] = bool,
    timeout: float = 30.0,
    interval: float = 0.1,
    what: str = "the expected state",
) -> T:
    """Call `probe` until its result satisfies `until`, and return that result.

    Raises:
        AssertionError: after `timeout` seconds, with what was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen: T | Exception
        try:
            seen = found = probe()
        except Exception as error:
            seen = error
        else:
            if until(found):
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} after {timeout:.0f} s; last seen: {seen!r}")
        time.sleep(interval)
