"""What the tests of the reward routes share: servers of fake workers, and requests to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from modelworker_api import wire
from modelworker_api.rewards import ScoreType
from modelworker_server.errors import NonFiniteScore, WorkerError
from tests.fake_reward_worker import FakeRewardWorker
from tests.server_support import Running, running_server

VALUE = "/worker_value_inference"
QUERY = "/get_reward"
REWARDS = "/v1/rewards"


@contextmanager
def reward_server(kind: ScoreType) -> Iterator[Running]:
    """A server whose worker fails for inputs with the words `infinity` and `memory`."""
    worker = FakeRewardWorker(kind)
    worker.failures = {
        "infinity": NonFiniteScore("step 1 has the score inf; look at the weights", step=1),
        "memory": WorkerError("this input alone does not fit into memory; shorten it"),
    }
    with running_server(worker) as running:
        yield running


def send(server: Running, path: str, body: Any, status: int = 200) -> Any:
    """The JSON that a request is answered with."""
    response = httpx.post(server.url + path, json=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def refused(server: Running, path: str, body: Any, status: int = 400) -> wire.ErrorDetail:
    """The error of a request that is answered with `status`."""
    answer = wire.ErrorResponse.model_validate(send(server, path, body, status))
    assert answer.error.code == answer.code == status
    assert answer.error.message == answer.message
    return answer.error
