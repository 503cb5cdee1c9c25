"""The only module that talks to the API server: JSON objects in and out."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import aiohttp
from kubernetes.aio import config

from modelworker_devcluster.kubelet import names

Object: TypeAlias = dict[str, Any]

_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
_WATCH_SECONDS = 240
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_WATCH_SECONDS + 60)


class ApiError(Exception):
    """The API server refused a request or could not be reached."""


class NotFound(ApiError):
    """The object does not exist."""


class Conflict(ApiError):
    """The object exists already, or is another one than the one meant."""


class Gone(ApiError):
    """The resource version to watch from is too old: list again."""


_ERRORS: Mapping[int, type[ApiError]] = {404: NotFound, 409: Conflict, 410: Gone}


class Api:
    """A connection to one API server."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    async def connect(cls, kubeconfig: Path) -> Self:
        """Read a kubeconfig. No request is made.

        Raises:
            kubernetes.aio.config.ConfigException: the file cannot be used.
        """
        load: Callable[..., Awaitable[Any]] = config.new_client_from_config
        client = await load(str(kubeconfig), persist_config=False)
        # A proxy of the host's environment cannot reach this cluster.
        client.configuration.client_session_kwargs = {"trust_env": False}
        client.user_agent = names.USER_AGENT
        return cls(client)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return cast("str", self._client.configuration.host)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, path: str, **query: str) -> Object:
        """Read an object or a list.

        Raises:
            ApiError: as `NotFound` when there is none.
        """
        return await self._request("GET", path, query)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in the collection `path` and return it as stored.

        Raises:
            ApiError: as `Conflict` when it exists already.
        """
        return await self._request("POST", path, {}, body)

    async def replace(self, path: str, body: Object) -> Object:
        """Replace an object and return it as stored.

        Raises:
            ApiError: as `Conflict` when it changed since it was read.
        """
        return await self._request("PUT", path, {}, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Apply a strategic merge patch and return the object as stored.

        Raises:
            ApiError: as `Conflict` when `metadata.uid` in the patch is not the object's.
        """
        return await self._request("PATCH", path, {}, body)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """Delete the object with this uid.

        Raises:
            ApiError: as `NotFound` or `Conflict` when that object is gone.
        """
        body: Object = {"preconditions": {"uid": uid}}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        await self._request("DELETE", path, {}, body)

    async def watch(self, path: str, **query: str) -> AsyncIterator[Object]:
        """The events of one watch request, until the server ends it.

        Raises:
            ApiError: as `Gone` when `resourceVersion` is too old.
        """
        query |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = await self._open("GET", path, query, timeout=_WATCH_TIMEOUT)
        try:
            _raise_for_status(response, b"")
            async for line in response.content:
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    error = _ERRORS.get(status.get("code", 0), ApiError)
                    raise error(f"watch {path}: {status.get('message')}")
                yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiError(f"watch {path} broke off: {error!r}") from error
        finally:
            response.close()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
    ) -> Object:
        response = await self._open(method, path, query, body)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"{method} {path} broke off: {error!r}") from error
        _raise_for_status(response, data)
        return cast("Object", json.loads(data))

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        *,
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,
    ) -> aiohttp.ClientResponse:
        subtype = "strategic-merge-patch+json" if method == "PATCH" else "json"
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": f"application/{subtype}"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.call_api(*request, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(f"{method} {path}: no answer from {self.server}: {error!r}") from error
        return cast("aiohttp.ClientResponse", answer.response)


def _raise_for_status(response: aiohttp.ClientResponse, data: bytes) -> None:
    if response.ok:
        return
    try:
        message = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        message = f"{response.status} {response.reason}"
    error = _ERRORS.get(response.status, ApiError)
    raise error(f"{response.method} {response.url.path}: {message}")
