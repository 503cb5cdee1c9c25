"""The objects of `test_kubelet.py`: small pods that each show one thing."""

from pathlib import Path
from typing import Any

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
    {"name": "PATH_IN_POD", "value": "/scratch/file"},
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
            *("python", "-c", REPORT, "$(VALUE)", "/scratch/arg", "$$(VALUE)", "/scratchpad"),
            spec={"volumes": [WORK]},
            env=ENV,
            envFrom=[{"prefix": "CFG_", "configMapRef": {"name": "settings"}}],
            resources={"limits": {"cpu": "100m"}},
            volumeMounts=[mount("work", "/scratch")],
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
            *("cat", "/scratch/file"),
            spec={
                "volumes": [WORK],
                "initContainers": [
                    {
                        "name": name,
                        "image": "local/test",
                        "command": ["sh", "-c", f'sleep {nap}; echo {name} >> "$1"', "sh"],
                        "args": ["/scratch/file"],
                        "volumeMounts": [mount("work", "/scratch")],
                    }
                    for name, nap in (("first", 0.5), ("second", 0))
                ],
            },
            volumeMounts=[mount("work", "/scratch")],
        ),
        pod(
            "ready",
            *("python", "-c", SERVER, "/scratch"),
            spec=always(volumes=[WORK], terminationGracePeriodSeconds=1),
            env=[{"name": "POD_IP", "valueFrom": field("status.podIP")}],
            ports=[{"name": "http", "containerPort": 8000}],
            volumeMounts=[mount("work", "/scratch")],
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
            *("sh", "/scratch"),
            spec=always(volumes=[WORK], terminationGracePeriodSeconds=1),
            volumeMounts=[mount("work", "/scratch")],
            livenessProbe={"exec": {"command": ["test", "-e", "/scratch/cured"]}} | PERIOD,
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
            *("sh", "-c", '[ -e "$1" ] || { touch "$1"; exit 1; }', "sh", "/scratch/tried"),
            spec={"restartPolicy": "OnFailure", "volumes": [WORK]},
            volumeMounts=[mount("work", "/scratch")],
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
