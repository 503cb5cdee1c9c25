"""Logs as one line each on stderr. They hold no prompts, answers or secrets."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

_QUIET: Final = ("httpx", "httpcore", "urllib3", "filelock", "huggingface_hub")


class OneLine(logging.Formatter):
    """`time=… level=… logger=… msg="…"`, with a traceback as one escaped string."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = (
            f"time={moment.isoformat(timespec='milliseconds')} "
            f"level={record.levelname.lower()} logger={record.name} "
            f"msg={json.dumps(record.getMessage(), ensure_ascii=False)}"
        )
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += f" trace={json.dumps(trace, ensure_ascii=False)}"
        return line


def configure(level: str) -> None:
    """Log from `level` on; libraries that log each request say only what goes wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
