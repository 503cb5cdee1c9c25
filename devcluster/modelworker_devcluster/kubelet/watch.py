"""A collection of objects, followed: listed once, then changed event by event."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from modelworker_devcluster.kubelet.api import Api, ApiError, Gone, Object

_RETRY_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """The whole collection; what is not in it does not exist (any more)."""

    items: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or changed."""

    item: Object


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; `item` is its last state."""

    item: Object


async def follow(api: Api, path: str, **query: str) -> AsyncIterator[Listed | Changed | Deleted]:
    """List, then watch for ever: on from the last version, or from a new list if that is gone."""
    version: str | None = None
    while True:
        try:
            if version is None:
                listing = await api.get(path, **query)
                yield Listed(tuple(listing["items"]))
                version = listing["metadata"]["resourceVersion"]
            async for event in api.watch(path, **query, resourceVersion=version):
                version = event["object"]["metadata"]["resourceVersion"]
                match event["type"]:
                    case "ADDED" | "MODIFIED":
                        yield Changed(event["object"])
                    case "DELETED":
                        yield Deleted(event["object"])
        except Gone as error:
            _log.info("%s; listing again", error)
            version = None
        except ApiError as error:
            _log.info("%s; trying again in %.0f s", error, _RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)
