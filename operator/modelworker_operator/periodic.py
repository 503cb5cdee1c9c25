"""Work that is done again and again while this process leads."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from modelworker_operator.errors import OperatorError
from modelworker_operator.queue import backoff_seconds

_log = logging.getLogger(__name__)


async def repeat(
    what: str,
    work: Callable[[], Awaitable[None]],
    *,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do the work at once and then every `seconds`, until cancelled; sooner after a failure.

    Args:
        what: The work in words, for the log, which has each kind of failure in a row once.
        work: It may fail with an OperatorError, and is then tried again.
        seconds: From one success to the next.
        sleep: How to wait.
    """
    failures = 0
    told: type[OperatorError] | None = None
    while True:
        try:
            await work()
        except OperatorError as error:
            failures += 1
            if type(error) is not told:
                _log.warning("%s: %s", what, error)
            told = type(error)
            await sleep(min(seconds, backoff_seconds(failures)))
        else:
            if told:
                _log.info("%s: done", what)
            failures, told = 0, None
            # Not all clusters' operators at the same second.
            await sleep(seconds * random.uniform(0.9, 1.0))  # noqa: S311 - no secret
