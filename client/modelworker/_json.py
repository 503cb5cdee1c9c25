"""Request bodies as JSON."""

import json
from typing import Any

from modelworker import _errors


def encode(body: dict[str, Any]) -> bytes:
    """The body as JSON.

    Raises:
        InvalidRequest: if something in it is not JSON, NaN and infinity included.
    """
    try:
        text = json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        )
        return text.encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        raise _errors.InvalidRequest(f"the request cannot be sent as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Scalars of numpy and torch as Python numbers."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}")
