"""Tokens and keys of a real API server, which the worker's check was not written with."""

import json
import time

import pytest

from modelworker_api import kube, wire
from modelworker_devcluster import DevCluster
from modelworker_server.auth import Auth
from modelworker_server.errors import Forbidden, Unauthorized, WorkerError


@pytest.mark.parametrize(
    ("audience", "own", "refusal"),
    [
        pytest.param(kube.INFERENCE_AUDIENCE, True, None, id="taken"),
        pytest.param(kube.INFERENCE_AUDIENCE, False, Forbidden, id="other-namespace"),
        pytest.param(kube.HEARTBEAT_AUDIENCE, True, Unauthorized, id="heartbeat"),
        pytest.param(None, True, Unauthorized, id="of-the-api-server"),
    ],
)
def test_tokens_of_a_cluster(
    audience: str | None,
    own: bool,
    refusal: type[WorkerError] | None,
    control_plane: DevCluster,
    control_plane_namespace: str,
) -> None:
    def published(path: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(control_plane.kubectl("get", "--raw", path))
        return found

    trust = wire.Trust.model_validate(
        {
            "issuer": published("/.well-known/openid-configuration")["issuer"],
            "keys": published("/openid/v1/jwks")["keys"],
            "namespaces": [control_plane_namespace if own else "another"],
        }
    )
    wanted = [] if audience is None else [f"--audience={audience}"]
    token = control_plane.kubectl(
        "create", "token", "default", "-n", control_plane_namespace, *wanted
    )
    auth = Auth(time.time)
    assert auth.take(trust)
    found = auth.refusal([(b"authorization", f"Bearer {token}".encode())])
    assert isinstance(found, refusal) if refusal else found is None, found
