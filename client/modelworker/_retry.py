"""Whether to try again, and after how long. Pure."""

from typing import Final

from modelworker._errors import ModelWorkerError

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0


def pause_before_retry(
    error: ModelWorkerError, *, round_: int, others_left: bool, remaining: float, luck: float
) -> float | None:
    """Seconds to wait before the next attempt, or None to give up with `error`.

    Another worker is tried at once. When every worker has been tried, a new round starts
    after an exponential pause with full jitter. A worker's `Retry-After` is the least it
    waits, and those that it turned away come back spread over as long again.

    Args:
        error: what the last attempt ended with.
        round_: how many rounds over all workers have ended before this one.
        others_left: whether a worker is left that this round has not tried.
        remaining: seconds until the call's deadline.
        luck: uniform in [0, 1).
    """
    if not error.retryable:
        return None
    if others_left:
        return 0.0
    asked = error.retry_after or 0.0
    spread = min(FIRST_PAUSE_SECONDS * 2 ** min(round_, 16), LONGEST_PAUSE_SECONDS)
    pause = asked + luck * max(asked, spread)
    return pause if pause < remaining else None
