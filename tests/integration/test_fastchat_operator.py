"""The controller protocol of the real operator on a real API server, with a standby beside it."""

from collections.abc import Iterator

import httpx
import pytest

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.fastchat_support import STATUS, ask, failed, frames
from tests.operator_pods import ADDRESS, bind, post, run, token
from tests.operator_support import Objects, OperatorProcess, free_port, install_crds
from tests.support import eventually


@pytest.fixture
def objects(control_plane: DevCluster, control_plane_namespace: str) -> Objects:
    install_crds(control_plane)
    return Objects(control_plane, control_plane_namespace)


@pytest.fixture
def pair(objects: Objects) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """The leader and the one that stands by, each with a port for its controller."""
    made = []
    try:
        for identity in ("first", "second"):
            environment = {"CONTROLLER_PORT": str(free_port())}
            process = OperatorProcess(
                objects.cluster, objects.namespace, identity, environment=environment
            )
            made.append(process)
            if identity == "first":
                process.wait_leading()
        eventually(lambda: made[1].get("/readyz").text == "standing by\n", what="a standby")
        yield made[0], made[1]
    finally:
        for process in made:
            process.stop()
            process.log.unlink()


def url_of(process: OperatorProcess) -> str:
    return f"http://127.0.0.1:{process.environment['CONTROLLER_PORT']}"


def ready_worker(objects: Objects, name: str) -> str:
    """Apply an object whose pod seems to run and be ready; gives the pod's name."""
    objects.apply_worker(name)
    found = eventually(
        lambda: objects.get("pods", "-l", objects.selector(name))["items"], what="a pod"
    )[0]["metadata"]["name"]
    bind(objects, found)
    run(objects, found, ready=True)
    return str(found)


def test_the_leader_tells_of_ready_workers_and_the_standby_of_nothing(
    objects: Objects, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    controller = url_of(first)
    assert ask(controller, "/list_models") == {"models": []}
    pod = ready_worker(objects, "policy")
    names = sorted(["policy", f"{objects.namespace}/policy"])
    eventually(
        lambda: ask(controller, "/list_models")["models"],
        until=lambda models: models == names,
        what="the names of a ready worker",
    )
    worker = f"http://{ADDRESS}:{kube.WORKER_PORT}"
    for name in names:
        assert ask(controller, "/get_worker_address", {"model": name}) == {"address": worker}
    assert ask(controller, STATUS)["queue_length"] == 2, "the two that were just given"

    answer = post(first, token(objects, pod), {"state": "Ready", "running": 3, "waiting": 4})
    assert answer.status_code == 200
    assert ask(controller, STATUS) == {"model_names": names, "speed": 1, "queue_length": 7}
    (frame,) = frames(controller, {"model": "policy", "prompt": "a"})
    assert failed(frame) == 50006, "nobody listens at that address"
    (frame,) = frames(controller, {"model": "other", "prompt": "a"})
    assert failed(frame) == 50005

    with pytest.raises(httpx.ConnectError):
        ask(url_of(second), "/list_models")
    first.process.terminate()
    second.wait_leading(20)
    # From its first answer on: a standby never said that nothing is served.
    assert eventually(lambda: ask(url_of(second), "/list_models"), what="an answer") == {
        "models": names
    }
    objects.kubectl("delete", objects.kind.short, "policy")
    eventually(
        lambda: ask(url_of(second), "/get_worker_address", {"model": "policy"})["address"],
        until=lambda address: address == "",
        what="no address of a worker that is deleted",
    )
