"""Making a layout fit the model's length."""

from dataclasses import replace

from modelworker_api.rewards import Overflow
from modelworker_server.errors import ContextTooLong
from modelworker_server.scoring.values import Layout, Place


def fit(layout: Layout, *, max_tokens: int, overflow: Overflow, bos_id: int | None) -> Layout:
    """The layout, or one that lacks as many leading tokens as it has too many.

    A leading BOS stays. No read, and no token of a step, is ever dropped.

    Raises:
        ContextTooLong: the input is too long, and may not be truncated or would lose a step.
    """
    length = len(layout.token_ids)
    if length <= max_tokens:
        return layout
    limit = f"this model's maximum context length is {max_tokens} tokens"
    if overflow is Overflow.ERROR:
        raise ContextTooLong(f"{limit}, and the input has {length}; shorten it")
    kept = 1 if layout.token_ids[0] == bos_id else 0
    cut = length - max_tokens
    first = kept + cut
    for step, place in enumerate(layout.places):
        if place.tokens[0] < first or layout.reads[place.read] < first:
            raise ContextTooLong(
                f"{limit}, and the input has {length}: dropping {cut} from its beginning would "
                f"cut into step {step}; shorten the answer"
            )
    if layout.reads[0] < first:
        raise ContextTooLong(
            f"{limit}, and the input has {length}: dropping {cut} from its beginning would drop "
            "tokens that are scored; shorten the answer"
        )
    return replace(
        layout,
        token_ids=(*layout.token_ids[:kept], *layout.token_ids[first:]),
        reads=tuple(read - cut for read in layout.reads),
        places=tuple(_moved(place, cut) for place in layout.places),
        shared=max(layout.shared - cut, 0),
        truncated=True,
    )


def _moved(place: Place, by: int) -> Place:
    return replace(place, tokens=(place.tokens[0] - by, place.tokens[1] - by))
