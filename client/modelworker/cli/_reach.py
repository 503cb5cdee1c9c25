"""Ways from here to a worker: at its own address, or through the API server."""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

from modelworker import _settings
from modelworker._settings import Settings
from modelworker.cli._cluster import Cluster, Reply, proxy_path
from modelworker.cli._facts import Worker
from modelworker.cli._failures import Failure, one_line

_SECONDS: Final = 10.0


class Reach:
    """Asks workers over the way that works, or that `access` or the environment says.

    Raises:
        InvalidRequest: if the environment says something else.
    """

    def __init__(self, cluster: Cluster, access: str | None) -> None:
        self._cluster = cluster
        said = access or _settings.access_of(Settings(name="any"))
        self._direct: bool | None = {"direct": True, "proxy": False}.get(said)

    def way(self, worker: Worker) -> str:
        """`direct` or `proxy`, for this worker and all others."""
        if self._direct is None:
            self._direct = self._cluster.in_cluster or (
                worker.address is not None and self._cluster.answers(worker.address)
            )
        return "direct" if self._direct else "proxy"

    def fetch(
        self,
        namespace: str,
        worker: Worker,
        path: str,
        *,
        direct_headers: Mapping[str, str] | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """What the worker answers at a path.

        Raises:
            Failure: if it does not answer.
        """
        if self.way(worker) == "proxy":
            return self._cluster.fetch(proxy_path(namespace, worker.pod, path), proxy_headers)
        return _direct(worker, path, direct_headers or {})


def _direct(worker: Worker, path: str, headers: Mapping[str, str]) -> Reply:
    address = urlsplit(f"//{worker.address or ''}")
    connection = HTTPConnection(address.hostname or "", address.port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Failure(
            f"worker {worker.pod} does not answer at {worker.address}: {one_line(str(error))}"
        ) from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise Failure(
            f"worker {worker.pod} answered {answer.status} to {path}: {one_line(text)[:300]}"
        )
    return Reply(text, {name.lower(): value for name, value in answer.getheaders()})
