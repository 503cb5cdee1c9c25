"""The process kubelet on a real API server: one namespace of small pods, each proving one thing."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support import eventually

from modelworker_devcluster import DevCluster

Object = dict[str, Any]

AUDIENCE = "tests.modelworker.dev/audience"
REPORT = "import json, os, sys; print(json.dumps({'env': dict(os.environ), 'argv': sys.argv[1:]}))"
READ = "import json, sys; print(json.dumps([open(path).read() for path in sys.argv[1:]]))"
SLEEP = ["sleep", "600"]
# Serves /ready, which is 200 while the file `go` is in the folder of its first argument.
SERVER = """
import http.server, os, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers["X-Probe"] == "yes"
        self.send_response(200 if wanted and pathlib.Path(sys.argv[1], "go").exists() else 503)
        self.end_headers()

    def log_message(self, *args):
        pass

http.server.HTTPServer((os.environ["POD_IP"], 8000), Handler).serve_forever()
"""
# Notes in the file of its first argument when SIGTERM came.
POLITE = """
import pathlib, signal, sys, time

def end(*_):
    pathlib.Path(sys.argv[1]).write_text(str(time.time()))
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


def field(path: str) -> Object:
    return {"fieldRef": {"fieldPath": path}}


def pod(name: str, *command: str, spec: Object | None = None, **container: Any) -> Object:
    """A pod of one container `c`, which ends for good unless `spec` says otherwise."""
    main = {"name": "c", "image": "local/test", "command": list(command)} | container
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"note": "hello"}},
        "spec": {"restartPolicy": "Never", "containers": [main]} | (spec or {}),
    }


def always(**more: Any) -> Object:
    return {"restartPolicy": "Always"} | more


def mount(name: str, path: str, **more: Any) -> Object:
    return {"name": name, "mountPath": path} | more


def config(kind: str, name: str, data: dict[str, str]) -> Object:
    key = "stringData" if kind == "Secret" else "data"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, key: data}


WORK = {"name": "work", "emptyDir": {}}
PERIOD = {"periodSeconds": 1, "failureThreshold": 1}

ENV = [
    {"name": "VALUE", "value": "plain"},
    {"name": "EXPANDED", "value": "$(VALUE)/$$(VALUE)/$(MISSING)"},
    {"name": "POD", "valueFrom": field("metadata.name")},
    {"name": "UID", "valueFrom": field("metadata.uid")},
    {"name": "LABEL", "valueFrom": field("metadata.labels['app']")},
    {"name": "ANNOTATION", "valueFrom": field("metadata.annotations['note']")},
    {"name": "NODE", "valueFrom": field("spec.nodeName")},
    {"name": "ACCOUNT", "valueFrom": field("spec.serviceAccountName")},
    {"name": "IP", "valueFrom": field("status.podIP")},
    {"name": "HOST", "valueFrom": field("status.hostIP")},
    {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
    {
        "name": "ABSENT",
        "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}},
    },
    {"name": "PATH_IN_POD", "value": "/work/file"},
]

FILES = {
    "volumes": [
        {
            "name": "all",
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "path": "token",
                            "audience": AUDIENCE,
                            "expirationSeconds": 600,
                        }
                    },
                    {"configMap": {"name": "settings", "items": [{"key": "color", "path": "c"}]}},
                    {"secret": {"name": "login"}},
                    {
                        "downwardAPI": {
                            "items": [
                                {
                                    "path": "labels",
                                    "fieldRef": {"fieldPath": "metadata.labels"},
                                }
                            ]
                        }
                    },
                ]
            },
        },
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400}},
    ]
}


def claim_volume() -> Object:
    return {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


def objects(shared: Path) -> list[Object]:
    """Everything that the tests of this module look at."""
    host = {"volumes": [{"name": "host", "hostPath": {"path": str(shared), "type": "Directory"}}]}
    host_mount = [mount("host", "/host")]
    gpu = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    return [
        config("ConfigMap", "settings", {"color": "blue", "size": "9"}),
        config("Secret", "login", {"password": "s3cret"}),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Mi"}},
            },
        },
        pod(
            "env",
            *("python", "-c", REPORT, "$(VALUE)", "/work/arg", "$$(VALUE)", "/workshop"),
            spec={"volumes": [WORK]},
            env=ENV,
            envFrom=[{"prefix": "CFG_", "configMapRef": {"name": "settings"}}],
            resources={"limits": {"cpu": "100m"}},
            volumeMounts=[mount("work", "/work")],
        ),
        pod(
            "files",
            *("python", "-c", READ, "/all/token", "/all/c", "/all/password", "/all/labels"),
            *("/settings/size", "/one/color", "/login/password"),
            spec=FILES,
            volumeMounts=[
                mount("all", "/all", readOnly=True),
                mount("settings", "/settings"),
                mount("settings", "/one/color", subPath="color"),
                mount("login", "/login"),
            ],
        ),
        pod(
            "writer",
            *("sh", "-c", 'echo kept > "$1"', "sh", "/data/file"),
            spec={"volumes": [claim_volume()]},
            volumeMounts=[mount("data", "/data")],
        ),
        pod(
            "init",
            *("cat", "/work/file"),
            spec={
                "volumes": [WORK],
                "initContainers": [
                    {
                        "name": name,
                        "image": "local/test",
                        "command": ["sh", "-c", f'sleep {nap}; echo {name} >> "$1"', "sh"],
                        "args": ["/work/file"],
                        "volumeMounts": [mount("work", "/work")],
                    }
                    for name, nap in (("first", 0.5), ("second", 0))
                ],
            },
            volumeMounts=[mount("work", "/work")],
        ),
        pod(
            "ready",
            *("python", "-c", SERVER, "/work"),
            spec=always(volumes=[WORK], terminationGracePeriodSeconds=1),
            env=[{"name": "POD_IP", "valueFrom": field("status.podIP")}],
            ports=[{"name": "http", "containerPort": 8000}],
            volumeMounts=[mount("work", "/work")],
            startupProbe={"tcpSocket": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 60},
            readinessProbe={
                "httpGet": {
                    "path": "/ready",
                    "port": "http",
                    "httpHeaders": [{"name": "X-Probe", "value": "yes"}],
                }
            }
            | PERIOD,
        ),
        pod(
            "sick",
            *("sh", "-c", '[ ! -e "$1/tried" ] || touch "$1/cured"; touch "$1/tried"; sleep 600'),
            *("sh", "/work"),
            spec=always(volumes=[WORK], terminationGracePeriodSeconds=1),
            volumeMounts=[mount("work", "/work")],
            livenessProbe={"exec": {"command": ["test", "-e", "/work/cured"]}} | PERIOD,
        ),
        pod(
            "slow",
            *SLEEP,
            spec=always(terminationGracePeriodSeconds=1),
            startupProbe={"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}} | PERIOD,
        ),
        pod(
            "crash",
            *("sh", "-c", 'echo "last words" > "$1"; exit 3', "sh", "/dev/termination-log"),
            spec=always(),
        ),
        pod(
            "crash-log",
            *("sh", "-c", "echo first; echo the reason >&2; exit 4"),
            spec=always(),
            terminationMessagePolicy="FallbackToLogsOnError",
        ),
        pod(
            "again",
            *("sh", "-c", '[ -e "$1" ] || { touch "$1"; exit 1; }', "sh", "/work/tried"),
            spec={"restartPolicy": "OnFailure", "volumes": [WORK]},
            volumeMounts=[mount("work", "/work")],
        ),
        pod("victim", *SLEEP, spec=always(terminationGracePeriodSeconds=1)),
        pod(
            "stubborn",
            *("sh", "-c", "trap '' TERM; echo ready; while true; do sleep 1; done"),
            spec=always(terminationGracePeriodSeconds=3),
        ),
        pod(
            "hook",
            *("python", "-c", POLITE, "/host/hook"),
            spec=always(terminationGracePeriodSeconds=30) | host,
            volumeMounts=host_mount,
            lifecycle={
                "preStop": {"sleep": {"seconds": 2}},
                "postStart": {"exec": {"command": ["touch", "/host/started"]}},
            },
        ),
        pod("gpu-a", "python", "-u", "-c", REPORT + "; import time; time.sleep(600)", **gpu),
        pod("gpu-b", "python", "-u", "-c", REPORT + "; import time; time.sleep(600)", **gpu),
        pod("unsupported", *SLEEP, spec={"hostPID": True}, stdin=True),
        pod("image", *SLEEP, image="registry.example/model:1"),
        pod("command", args=["x"]),
        pod("program", "no-such-program"),
        pod(
            "config",
            *("sh", "-c", "echo $FOUND"),
            env=[
                {"name": "FOUND", "valueFrom": {"secretKeyRef": {"name": "later", "key": "k"}}},
            ],
        ),
        pod(
            "limits",
            *SLEEP,
            spec=always(terminationGracePeriodSeconds=1),
            resources={"limits": {"memory": "64Mi"}},
            securityContext={"runAsNonRoot": True},
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "c",
                                "image": "local/test",
                                "command": ["python", "-m", "http.server", "8000"],
                                "args": ["--bind", "$(POD_IP)"],
                                "env": [{"name": "POD_IP", "valueFrom": field("status.podIP")}],
                                "readinessProbe": {"httpGet": {"port": 8000}} | PERIOD,
                            }
                        ],
                    },
                },
            },
        },
    ]


class World:
    """The namespace of these tests, and what can be seen in it."""

    def __init__(self, cluster: DevCluster, namespace: str, shared: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.shared = shared

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *args, stdin=stdin)

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def folder(self, name: str) -> Path:
        (folder,) = self.cluster.directory.glob(f"kubelet/pods/{self.namespace}_{name}_*")
        return folder

    def log(self, name: str) -> str:
        return eventually(
            lambda: self.folder(name).joinpath("c.log").read_text(), what=f"output of {name}"
        )

    def phase(self, name: str, *phases: str) -> Object:
        """The status of a pod once it is in one of these phases."""
        return eventually(
            lambda: self.get("pod", name)["status"],
            until=lambda status: status.get("phase") in phases,
            what=f"pod {name} in {phases}",
        )

    def container(self, name: str, state: str, reason: str = "") -> Object:
        """The status of a pod's container once it is in a state, for a reason."""

        def seen() -> Object:
            statuses = self.get("pod", name)["status"].get("containerStatuses") or [{}]
            found: Object = statuses[0]
            return found

        return eventually(
            seen,
            until=lambda one: (
                one.get("state", {}).get(state, {"reason": "-"}).get("reason", "") == reason
            ),
            what=f"container of {name} {state} {reason}",
        )

    def events(self, name: str) -> list[str]:
        listed = json.loads(
            self.kubectl("get", "events", "-o=json", f"--field-selector=involvedObject.name={name}")
        )
        return [event["message"] for event in listed["items"]]


@pytest.fixture(scope="module")
def world(cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All pods, applied at once."""
    shared = tmp_path_factory.mktemp("host")
    namespace = f"kubelet-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    found = World(cluster, namespace, shared)
    eventually(lambda: found.kubectl("get", "serviceaccount/default"), what="service account")
    everything = {"apiVersion": "v1", "kind": "List", "items": objects(shared)}
    found.kubectl("apply", "-f", "-", stdin=json.dumps(everything))
    yield found
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_environment(world: World) -> None:
    status = world.phase("env", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", world.log("env")
    report = json.loads(world.log("env"))
    env, work = report["env"], f"{world.folder('env')}/volumes/work"
    expected = {
        "VALUE": "plain",
        "EXPANDED": "plain/$(VALUE)/$(MISSING)",
        "POD": "env",
        "UID": world.get("pod", "env")["metadata"]["uid"],
        "LABEL": "env",
        "ANNOTATION": "hello",
        "NODE": "devcluster",
        "ACCOUNT": "default",
        "IP": status["podIP"],
        "HOST": "127.0.0.1",
        "CPUS": "1",
        "KEY": "blue",
        "PASSWORD": "s3cret",
        "CFG_color": "blue",
        "CFG_size": "9",
        "PATH_IN_POD": f"{work}/file",
        "CUDA_VISIBLE_DEVICES": "",
        "HOSTNAME": "env",
    }
    assert {key: env.get(key) for key in expected} == expected
    assert "ABSENT" not in env
    assert report["argv"] == ["plain", f"{work}/arg", "$(VALUE)", "/workshop"]
    # Nothing of the host's environment but what a container has, too.
    assert "PYTHONPATH" not in env
    assert env["HOME"] == f"{world.folder('env')}/home"


def test_files_and_token(world: World) -> None:
    assert world.phase("files", "Succeeded", "Failed")["phase"] == "Succeeded", world.log("files")
    token, *rest = json.loads(world.log("files"))
    assert rest == ["blue", "s3cret", 'app="files"', "9", "blue", "s3cret"]
    secret = world.folder("files") / "volumes/login/password"
    assert secret.stat().st_mode & 0o777 == 0o400

    def review(*audiences: str) -> Object:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        answer = world.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request))
        status: Object = json.loads(answer)["status"]
        return status

    status = review(AUDIENCE)
    assert status["authenticated"] is True
    assert status["audiences"] == [AUDIENCE]
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["files"]
    uid = world.get("pod", "files")["metadata"]["uid"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    assert not review("somebody-else").get("authenticated")


def test_claim_keeps_data_from_pod_to_pod_until_it_is_deleted(world: World) -> None:
    world.phase("writer", "Succeeded")
    world.kubectl("delete", "pod", "writer")
    reader = pod(
        "reader",
        *("cat", "/data/file"),
        spec={"volumes": [claim_volume()]},
        volumeMounts=[mount("data", "/data")],
    )
    world.kubectl("apply", "-f", "-", stdin=json.dumps(reader))
    world.phase("reader", "Succeeded")
    assert world.log("reader") == "kept\n"
    folder = world.cluster.directory / "kubelet/volumes" / world.namespace / "data"
    assert (folder / "file").exists()
    world.kubectl("delete", "pod/reader", "pvc/data")
    eventually(lambda: not folder.exists(), what="removal of the claim's folder")


def test_init_containers_run_in_order(world: World) -> None:
    status = world.phase("init", "Succeeded")
    assert world.log("init") == "first\nsecond\n"
    assert [one["state"]["terminated"]["reason"] for one in status["initContainerStatuses"]] == [
        "Completed",
        "Completed",
    ]


def condition(status: Object, kind: str) -> Object:
    found: Object = next(one for one in status.get("conditions", []) if one["type"] == kind)
    return found


def test_readiness_follows_its_probe(world: World) -> None:
    world.container("ready", "running")
    go = world.folder("ready") / "volumes/work/go"

    def becomes(status: str) -> None:
        eventually(
            lambda: condition(world.get("pod", "ready")["status"], "Ready"),
            until=lambda one: one["status"] == status,
            what=f"Ready={status}",
        )

    becomes("False")
    go.touch()
    becomes("True")
    go.unlink()
    becomes("False")
    assert any("statuscode: 503" in message for message in world.events("ready"))


@pytest.mark.parametrize(
    ("name", "kind", "output"),
    [
        pytest.param("sick", "liveness", "Liveness probe failed", id="liveness"),
        pytest.param("slow", "startup", "Startup probe failed: not yet", id="startup"),
    ],
)
def test_failed_probe_restarts_the_container(
    world: World, name: str, kind: str, output: str
) -> None:
    status = eventually(
        lambda: world.get("pod", name)["status"]["containerStatuses"][0],
        until=lambda one: one["restartCount"] >= 1 and "lastState" in one,
        what=f"restart of {name}",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 143
    events = eventually(
        lambda: world.events(name), until=lambda seen: len(seen) >= 2, what=f"events of {name}"
    )
    assert f"Container c failed {kind} probe, will be restarted" in events
    assert any(message.startswith(output) for message in events)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        pytest.param("crash", 3, "last words\n", id="file"),
        pytest.param("crash-log", 4, "first\nthe reason\n", id="log"),
    ],
)
def test_crash_backs_off_and_says_why(world: World, name: str, code: int, message: str) -> None:
    status = world.container(name, "waiting", "CrashLoopBackOff")
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting")
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (code, "Error", message)
    assert status["restartCount"] == 1
    assert (world.folder(name) / "c.previous.log").exists()


def test_on_failure_tries_again(world: World) -> None:
    status = world.phase("again", "Succeeded")
    assert status["containerStatuses"][0]["restartCount"] == 1


def test_killed_process_is_started_again(world: World) -> None:
    world.container("victim", "running")
    pid = int((world.folder("victim") / "c.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    status = eventually(
        lambda: world.get("pod", "victim")["status"]["containerStatuses"][0],
        until=lambda one: one["restartCount"] == 1 and "running" in one["state"],
        what="restart after SIGKILL",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 137


def test_stubborn_container_is_killed_after_its_grace_period(world: World) -> None:
    assert world.log("stubborn") == "ready\n"
    pid = int((world.folder("stubborn") / "c.pid").read_text())
    began = time.monotonic()
    world.kubectl("delete", "pod", "stubborn", "--wait=true")
    assert 3 <= time.monotonic() - began < 15
    assert not Path(f"/proc/{pid}").exists()


def test_pre_stop_comes_before_sigterm_and_post_start_before_all(world: World) -> None:
    assert world.log("hook") == "ready\n"
    assert (world.shared / "started").exists()
    began = time.time()
    world.kubectl("delete", "pod", "hook", "--wait=true")
    told = float((world.shared / "hook").read_text())
    assert 2 <= told - began < 15


def test_gpus_are_exclusive(world: World) -> None:
    devices = {
        json.loads(world.log(name))["env"]["CUDA_VISIBLE_DEVICES"] for name in ("gpu-a", "gpu-b")
    }
    assert devices == {"0", "1"}
    world.kubectl("delete", "pod", "gpu-a", "gpu-b", "--grace-period=1", "--wait=true")


def test_unsupported_fields_are_refused_by_name(world: World) -> None:
    status = world.phase("unsupported", "Failed")
    assert status["reason"] == "NotSupportedByDevcluster"
    assert "spec.hostPID" in status["message"]
    assert "spec.containers[c].stdin" in status["message"]


def test_unknown_image(world: World) -> None:
    status = world.container("image", "waiting", "ImagePullBackOff")
    assert "local/*" in status["state"]["waiting"]["message"]


def test_container_without_command(world: World) -> None:
    status = world.container("command", "waiting", "CreateContainerConfigError")
    assert "set `command`" in status["state"]["waiting"]["message"]


def test_program_that_does_not_exist(world: World) -> None:
    status = world.container("program", "terminated", "StartError")["state"]["terminated"]
    assert (status["exitCode"], world.get("pod", "program")["status"]["phase"]) == (128, "Failed")
    assert "no-such-program" in status["message"]


def test_container_waits_for_its_secret(world: World) -> None:
    status = world.container("config", "waiting", "CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == 'secret "later" not found'
    world.kubectl("create", "secret", "generic", "later", "--from-literal=k=here")
    world.phase("config", "Succeeded")
    assert world.log("config") == "here\n"


def test_what_is_not_enforced_is_said(world: World) -> None:
    status = world.phase("limits", "Running")
    isolation = condition(status, "devcluster.modelworker.dev/IsolationEnforced")
    assert isolation["status"] == "False"
    assert "spec.containers[c].resources.limits.memory" in isolation["message"]
    assert "spec.containers[c].securityContext.runAsNonRoot" in isolation["message"]


def test_deployment_becomes_available(world: World) -> None:
    world.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    pods = json.loads(world.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    addresses = {one["status"]["podIP"] for one in pods}
    # Both listen on port 8000.
    assert len(addresses) == 2
    world.kubectl("delete", "deployment", "web", "--wait=false")
