"""The EndpointSlice that leads from the operator's Service to the leader."""

import asyncio
from typing import Any, cast

import pytest

from modelworker_operator.config import Config
from modelworker_operator.desired import Manifest, leader_slice
from modelworker_operator.errors import CannotPublish
from modelworker_operator.leader import keep_published, publish
from modelworker_operator.resources import SERVICES, Resource


def config(**settings: Any) -> Config:
    return Config(
        namespace="system", publish_service="operator", **{"pod_ip": "10.0.0.7", **settings}
    )


class Api:
    """Has one Service, maybe, and keeps what is applied."""

    def __init__(self, service: Manifest | None) -> None:
        self.service = service
        self.applied: list[Manifest] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        assert (resource, namespace, name) == (SERVICES, "system", "operator")
        return self.service

    async def apply(self, manifest: Manifest) -> Manifest:
        self.applied.append(manifest)
        return manifest


def service(**spec: Any) -> Manifest:
    return {"metadata": {"uid": "uid-service"}, "spec": spec}


def test_whole_slice() -> None:
    assert leader_slice(config(), "uid-service") == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "operator-leader",
            "namespace": "system",
            "labels": {
                "app.kubernetes.io/managed-by": "modelworker",
                "kubernetes.io/service-name": "operator",
                "endpointslice.kubernetes.io/managed-by": "modelworker-operator",
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": "operator", "uid": "uid-service"}
            ],
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": True}}],
        "ports": [{"name": "heartbeat", "port": 8085, "protocol": "TCP"}],
    }


@pytest.mark.parametrize(
    ("settings", "kind", "ports"),
    [
        pytest.param({"pod_ip": "2001:db8::7"}, "IPv6", [("heartbeat", 8085)], id="ipv6"),
        pytest.param({"heartbeat_port": 9000}, "IPv4", [("heartbeat", 9000)], id="other-port"),
        pytest.param(
            {"controller_port": 21001},
            "IPv4",
            [("heartbeat", 8085), ("controller", 21001)],
            id="controller",
        ),
    ],
)
def test_address_and_ports(
    settings: dict[str, Any], kind: str, ports: list[tuple[str, int]]
) -> None:
    found = leader_slice(config(**settings), "uid")
    assert found["addressType"] == kind
    assert [(port["name"], port["port"]) for port in found["ports"]] == ports


def test_it_is_applied_for_the_service() -> None:
    api = Api(service())
    asyncio.run(publish(cast("Any", api), config()))
    assert api.applied == [leader_slice(config(), "uid-service")]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(None, "Service system/operator does not exist; create it", id="no-service"),
        pytest.param(service(selector={"a": "b"}), "has a selector.*remove it", id="selector"),
    ],
)
def test_a_service_that_cannot_lead_here_is_told(found: Manifest | None, said: str) -> None:
    api = Api(found)
    with pytest.raises(CannotPublish, match=said):
        asyncio.run(publish(cast("Any", api), config()))
    assert api.applied == []


def test_without_a_service_there_is_nothing_to_do() -> None:
    api = Api(None)
    asyncio.run(keep_published(cast("Any", api), Config(namespace="system")))
    assert api.applied == []
