"""Which routes of an engine's own application may be called: every other one stays closed."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Access(Enum):
    """What is asked of a request before the engine's application gets it."""

    READ = auto()
    """A question that costs the engine nothing."""
    WORK = auto()
    """A request that takes a place in the queue."""
    DEVELOPMENT = auto()
    """A change of the engine itself, for the holder of the token."""


@dataclass(frozen=True, slots=True)
class EngineRoute:
    """A route of the engine's application."""

    path: str
    """The same for all requests of the route: metrics name it."""
    access: Access


_READ: Final = {"GET /v1/models", "GET /tokenizer_info", "GET /version"}
_WORK: Final = {
    "POST /v1/completions",
    "POST /v1/completions/render",
    "POST /v1/chat/completions",
    "POST /v1/chat/completions/render",
    "POST /v1/responses",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1/embeddings",
    "POST /v2/embed",
    "POST /tokenize",
    "POST /detokenize",
    "POST /pooling",
    "POST /classify",
    "POST /score",
    "POST /v1/score",
    "POST /rerank",
    "POST /v1/rerank",
    "POST /v2/rerank",
    "POST /generative_scoring",
    "POST /inference/v1/generate",
}
# Aborts free the engine: a full queue must not refuse them.
_UNQUEUED: Final = {"POST /inference/v1/abort_requests"}
_RESPONSES: Final = re.compile(r"GET /v1/responses/[^/]+|POST /v1/responses/[^/]+/cancel")
_DEVELOPMENT: Final = {
    "POST /pause",
    "POST /resume",
    "GET /is_paused",
    "POST /abort_requests",
    "POST /sleep",
    "POST /wake_up",
    "GET /is_sleeping",
    "POST /release_kv_cache_memory",
    "POST /reset_prefix_cache",
    "POST /reset_mm_cache",
    "POST /reset_encoder_cache",
    "GET /server_info",
    "GET /get_world_size",
    "POST /init_weight_transfer_engine",
    "POST /shutdown_weight_transfer_engine",
    "POST /start_weight_update",
    "POST /start_draft_weight_update",
    "POST /update_weights",
    "POST /finish_weight_update",
    "POST /update_weight_version",
    "GET /weight_info",
    "POST /weight_checker",
}


def route_of(method: str, path: str) -> EngineRoute | None:
    """The route of the engine's application that a request is for; None if none is open to it."""
    route = f"{method} {path}"
    if route in _WORK:
        return EngineRoute(path, Access.WORK)
    if route in _READ or route in _UNQUEUED:
        return EngineRoute(path, Access.READ)
    if _RESPONSES.fullmatch(route):
        return EngineRoute("/v1/responses/{response_id}", Access.READ)
    return EngineRoute(path, Access.DEVELOPMENT) if route in _DEVELOPMENT else None
