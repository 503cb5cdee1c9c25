"""Which worker a session, or the beginning of a prompt, belongs to. Pure.

The order of workers for a key is rendezvous hashing (highest random weight; Thaler and
Ravishankar, 1998): each worker has a weight for each key, the heaviest comes first. It is a
function of the key and the set of workers alone, so that processes which know nothing of
one another agree, and only the keys of a worker that leaves move. How much load a worker
takes before the next in the order gets the key is consistent hashing with bounded loads
(Mirrokni, Thorup and Zadimoghaddam, 2016, arXiv:1608.01350).

A worker is its base URL: one that restarts under another URL is another worker, which is
right, for its cache is gone too.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal

from modelworker._errors import InvalidRequest
from modelworker._requests import Message, Prompt

Mode = Literal["prefix"]

PREFIX_CHARACTERS: Final = 512
PREFIX_TOKENS: Final = 128
"""How much of a prompt is its key: more than what a task's prompts have in common, and less
than what the steps of one search tree share."""
SPREAD: Final = 1.25
"""How far above the mean the load of a worker may be before its keys go to the next."""
LEAST_CAPACITY: Final = 8
"""Requests that a worker always takes for its keys: so few run together in about the time of
one, and a search tree torn apart computes its prompt twice."""


def key_of(
    session: str | None, mode: Mode | None, prompt: Prompt | Sequence[Message]
) -> str | None:
    """The key of a call: calls of one key meet the same worker while its load allows.

    Args:
        session: the caller's name for calls that belong together; it decides if it is given.
        mode: `"prefix"` for the beginning of the prompt where there is no session.
        prompt: text, token ids, or a conversation.

    Returns:
        The key, or None where any worker will do.

    Raises:
        InvalidRequest: if the session is no string, or empty.
    """
    if session is not None:
        if not isinstance(session, str) or not session:
            raise InvalidRequest(
                f"session must be a string that is not empty, not {session!r:.80}: "
                "calls that name the same one meet the same worker"
            )
        return f"session {session}"
    if mode is None:
        return None
    return f"prefix {_beginning(prompt)}"


def preferred(key: str, workers: Collection[str]) -> tuple[str, ...]:
    """Every worker once, the one that the key belongs to first; the order given is no matter."""
    seed = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=32).digest()
    return tuple(sorted(set(workers), key=lambda worker: (_weight(seed, worker), worker)))


def capacity(total: float, workers: int) -> int:
    """The load that a worker may have, this call included, of all that is under way.

    `ceil(SPREAD * (total + 1) / workers)`, and `LEAST_CAPACITY` at least.

    Args:
        total: load of all workers, without the call that is to be placed.
        workers: their number, at least one.
    """
    return max(LEAST_CAPACITY, math.ceil(SPREAD * (total + 1) / workers))


def place(key: str, loads: Mapping[str, float], full: Collection[str] = ()) -> str:
    """The worker for a call of this key: the first in its order that has room.

    Args:
        key: of the call.
        loads: requests under way at each worker that may be chosen, at least one.
        full: workers with no room, whatever their load says.

    Returns:
        The first worker of `preferred` whose load is below `capacity` and that is not full;
        the first of all if there is none.
    """
    order = preferred(key, loads)
    room = capacity(sum(loads.values()), len(loads))
    return next((w for w in order if loads[w] < room and w not in full), order[0])


def _weight(seed: bytes, worker: str) -> bytes:
    return hashlib.blake2b(worker.encode(errors="surrogatepass"), key=seed, digest_size=8).digest()


def _beginning(prompt: Prompt | Sequence[Message]) -> str:
    if isinstance(prompt, str):
        return prompt[:PREFIX_CHARACTERS]
    head: list[Any] = list(prompt[:PREFIX_TOKENS])
    if not head or not isinstance(head[0], Mapping):
        return ",".join(map(str, head))
    texts = (f"{message.get('role')}: {message.get('content')}" for message in head)
    return "\n".join(texts)[:PREFIX_CHARACTERS]
