"""Progress on a terminal, log lines elsewhere."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

LONG_BATCH_SECONDS: Final = 2.0
"""Batches that end sooner show nothing."""

_WITHOUT_PERCENT: Final = "{desc} {elapsed}"
_WITH_PERCENT: Final = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"

logger = logging.getLogger(__name__)


def _shown(wanted: bool | None) -> bool:
    return sys.stderr.isatty() if wanted is None else wanted


def _bar(**options: Any) -> "tqdm[NoReturn]":
    # A third of the time of `import modelworker`, for something that most programs never show.
    from tqdm import tqdm  # noqa: PLC0415

    return tqdm(dynamic_ncols=True, **options)


@contextmanager
def waiting(name: str, wanted: bool | None) -> Iterator[Callable[[str, int | None], None]]:
    """Shows what a wait for workers is for, and how far their load is.

    Args:
        name: what is waited for.
        wanted: True or False to force it, None for a terminal only.
    """
    shown = _shown(wanted)
    bar: tqdm[NoReturn] | None = None
    said = ""

    def show(words: str, percent: int | None) -> None:
        nonlocal bar, said
        if words != said:
            logger.info("waiting for %s: %s", name, words)
            said = words
        if not shown:
            return
        bar = bar or _bar(total=100, leave=False, bar_format=_WITHOUT_PERCENT)
        bar.bar_format = _WITHOUT_PERCENT if percent is None else _WITH_PERCENT
        bar.n = percent or 0
        bar.set_description_str(f"{name}: {words}")

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def counting(name: str, total: int, wanted: bool | None) -> Iterator[Callable[[], object]]:
    """Counts the items of a long batch.

    Args:
        name: what answers.
        total: number of items.
        wanted: True or False to force it, None for a terminal only.
    """
    if total < 2 or not _shown(wanted):
        yield lambda: None
        return
    delay = 0.0 if wanted else LONG_BATCH_SECONDS
    with _bar(total=total, desc=name, delay=delay, leave=bool(wanted)) as bar:
        yield bar.update
