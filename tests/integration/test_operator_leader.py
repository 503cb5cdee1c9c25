"""The Service of the operator leads to the leader alone."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from modelworker_devcluster import DevCluster
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds
from tests.support import eventually

SERVICE: Final = "operator"
SLICE: Final = "operator-leader"


@pytest.fixture
def objects(control_plane: DevCluster, control_plane_namespace: str) -> Objects:
    install_crds(control_plane)
    return Objects(control_plane, control_plane_namespace)


@pytest.fixture
def service(objects: Objects) -> dict[str, Any]:
    """The operator's Service, without a selector."""
    ports = [{"name": "heartbeat", "port": 8085}]
    objects.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE},
            "spec": {"ports": ports},
        }
    )
    return objects.get("service", SERVICE)


class Pair:
    """Operators for one namespace that publish addresses of their own."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.processes: list[OperatorProcess] = []

    def start(self, address: str, **settings: str) -> OperatorProcess:
        environment = {"PUBLISH_SERVICE": SERVICE, "POD_IP": address, **settings}
        process = OperatorProcess(
            self.objects.cluster,
            self.objects.namespace,
            f"at-{address}",
            environment=environment,
        )
        self.processes.append(process)
        return process


@pytest.fixture
def operators(objects: Objects) -> Iterator[Pair]:
    pair = Pair(objects)
    yield pair
    for process in pair.processes:
        process.stop()


def addresses(objects: Objects) -> list[str]:
    """Where the Service leads to."""
    slices = objects.get("endpointslices", "-l", f"kubernetes.io/service-name={SERVICE}")["items"]
    return [
        address
        for one in slices
        for endpoint in one["endpoints"]
        for address in endpoint["addresses"]
    ]


def wait_for(objects: Objects, address: str) -> None:
    eventually(
        lambda: addresses(objects),
        until=lambda found: found == [address],
        what=f"a Service that leads to {address}",
    )


def test_it_follows_the_lease(objects: Objects, service: dict[str, Any], operators: Pair) -> None:
    first = operators.start("10.0.0.1").wait_leading()
    wait_for(objects, "10.0.0.1")
    second = operators.start("10.0.0.2")
    eventually(lambda: second.get("/readyz").text == "standing by\n", what="a standby")
    assert addresses(objects) == ["10.0.0.1"]
    first.stop()
    second.wait_leading()
    wait_for(objects, "10.0.0.2")
    found = objects.get("endpointslice", SLICE)
    (port,) = found["ports"]
    assert (port["name"], port["port"]) == ("heartbeat", second.heartbeat_port)
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Service", service["metadata"]["uid"])


@pytest.mark.usefixtures("service")
def test_what_others_do_to_it_is_repaired(objects: Objects, operators: Pair) -> None:
    operators.start("10.0.0.1", RESYNC_SECONDS="1").wait_leading()
    wait_for(objects, "10.0.0.1")
    objects.kubectl("delete", "endpointslice", SLICE)
    wait_for(objects, "10.0.0.1")
    edit = {"endpoints": [{"addresses": ["10.0.0.9"]}]}
    objects.kubectl("patch", "endpointslice", SLICE, "--type=merge", "-p", json.dumps(edit))
    wait_for(objects, "10.0.0.1")


def test_a_service_that_comes_late_is_found_and_told_of(
    objects: Objects, operators: Pair, request: pytest.FixtureRequest
) -> None:
    process = operators.start("10.0.0.1").wait_leading()
    eventually(
        process.log.read_text,
        until=lambda text: f"Service {objects.namespace}/operator does not exist; create" in text,
        what="what is missing",
    )
    request.getfixturevalue("service")
    wait_for(objects, "10.0.0.1")
    assert process.log.read_text().count("does not exist") == 1


def test_a_service_that_goes_takes_it_along(
    objects: Objects, service: dict[str, Any], operators: Pair
) -> None:
    process = operators.start("10.0.0.1").wait_leading()
    wait_for(objects, "10.0.0.1")
    process.stop()
    objects.kubectl("delete", "service", SERVICE)
    eventually(
        lambda: objects.get("endpointslices")["items"],
        until=lambda found: found == [],
        timeout=60,
        what="no EndpointSlice",
    )


@pytest.mark.usefixtures("service")
def test_without_the_setting_nothing_is_written(objects: Objects, operators: Pair) -> None:
    audit = Audit(objects.cluster)
    process = operators.start("10.0.0.1", PUBLISH_SERVICE="").wait_leading()
    assert audit.brief("at-10.0.0.1") == []
    assert process.stop() == 0
    assert addresses(objects) == []
