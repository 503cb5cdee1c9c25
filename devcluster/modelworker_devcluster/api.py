"""The few requests that the devcluster itself makes of its servers."""

import ssl
from typing import Any, cast

import httpx

from modelworker_devcluster.components import NODE_NAME, STORAGE_CLASS, STORAGE_PROVISIONER
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import Layout

_TIMEOUT_S = 10.0
_SERVICE_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
_NODE = f"/api/v1/nodes/{NODE_NAME}"
_STORAGE_CLASS = f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}"


class Api:
    """The API server of one cluster, asked as its administrator."""

    def __init__(self, layout: Layout, server: str) -> None:
        context = ssl.create_default_context(cafile=str(layout.pki("ca.crt")))
        context.load_cert_chain(layout.pki("admin.crt"), layout.pki("admin.key"))
        # trust_env off: a proxy of the environment has no business on loopback.
        self._http = httpx.Client(
            base_url=server,
            verify=context,
            timeout=_TIMEOUT_S,
            trust_env=False,
            headers={"user-agent": "devcluster"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def answers(self, url: str) -> bool:
        """Whether a GET of a path of the API server, or of another server's URL, succeeds."""
        try:
            return self._http.get(url).is_success
        except httpx.TransportError:
            return False

    def has_service_account(self) -> bool:
        """Whether pods can be created in the namespace `default`."""
        return self.answers(_SERVICE_ACCOUNT)

    def node_is_ready(self) -> bool:
        """Whether the scheduler would put a pod on the node."""
        node = self._get(_NODE)
        if node is None or node.get("spec", {}).get("taints"):
            return False
        conditions = node.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def apply_storage_class(self) -> None:
        """Make the default StorageClass, whose volumes the kubelet makes as folders.

        Raises:
            DevClusterError: the API server refuses.
        """
        answer = self._http.patch(
            _STORAGE_CLASS,
            params={"fieldManager": "devcluster"},
            headers={"content-type": "application/apply-patch+yaml"},
            json={
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": STORAGE_CLASS,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": STORAGE_PROVISIONER,
                "volumeBindingMode": "Immediate",
            },
        )
        if not answer.is_success:
            raise DevClusterError(f"cannot make the StorageClass {STORAGE_CLASS}: {answer.text}")

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self._http.get(path)
        except httpx.TransportError:
            return None
        return cast("dict[str, Any]", answer.json()) if answer.is_success else None
