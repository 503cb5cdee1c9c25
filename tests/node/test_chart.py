"""The life of an installation: from `helm install` to `helm uninstall`, in this order.

What a user types is typed here, on a machine that reaches the API server alone.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests import audit
from tests.chart_support import copy_of_chart
from tests.node_world import (
    CHART,
    RELEASE,
    RESTRICTED,
    SYSTEM,
    TAG,
    USERS,
    World,
    example,
    without_claim,
)
from tests.support import eventually

OPERATOR = f"system:serviceaccount:{SYSTEM}:modelworker-operator"
LEADER = "modelworker-operator-leader"
QUESTION = "The capital of France is"
CANARY = "hf_canary0123456789abcdefghijklmnop"

ASK = f"""
import json
from modelworker import LM, RMCall
lm, rm = LM("smollm2", namespace="{USERS}"), RMCall("smollm2-prm", namespace="{USERS}")
answer = lm.generate("{QUESTION}", max_tokens=6, temperature=0)
streamed = "".join(part.text for part in lm.stream("{QUESTION}", max_tokens=6, temperature=0))
score = rm.score(("1+1?", "One and one.\\nIt is 2."), separator="\\n")
print(json.dumps({{
    "text": answer.text, "worker": answer.worker, "streamed": streamed,
    "score": float(score), "steps": len(score.steps),
}}))
"""


@pytest.fixture(scope="module")
def installed(world: World) -> World:
    """The chart under an earlier version, the users' namespace, and both kinds of object Ready."""
    earlier = copy_of_chart(world.home, "0.0.9")
    for name in (SYSTEM, USERS):
        labels = [f"{key}={value}" for key, value in RESTRICTED.items()]
        world.node.kubectl("create", "namespace", name)
        world.node.kubectl("label", "namespace", name, *labels)
    arguments = ["install", RELEASE, str(earlier), *world.values(), "--wait", "--timeout", "5m"]
    done = world.helm(*arguments)
    assert not re.search(r"warn|would violate", done.stdout + done.stderr, re.IGNORECASE)
    world.fill_volume()
    for name in ("smollm2.yaml", "smollm2-prm.yaml"):
        world.kubectl("apply", "-f", "-", stdin=without_claim(example(name)))
    world.ready("mw/smollm2")
    world.ready("rwm/smollm2-prm")
    return world


def test_notes_say_the_next_commands(installed: World) -> None:
    notes = installed.helm("get", "notes", RELEASE).stdout
    assert len(re.findall(r"^\s*kubectl |^\s*helm test", notes, re.MULTILINE)) >= 3, notes


def test_its_own_test_passes(installed: World) -> None:
    done = installed.helm("test", RELEASE, "--timeout", "3m")
    assert "Succeeded" in done.stdout


def test_two_operators_run_and_one_leads(installed: World) -> None:
    pods = installed.read("pods", "-l", "app.kubernetes.io/component=operator", namespace=SYSTEM)[
        "items"
    ]
    lease = installed.read("lease", "modelworker-operator", namespace=SYSTEM)
    holder = lease["spec"]["holderIdentity"].partition("_")[0]
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
    published = installed.read("endpointslice", LEADER, namespace=SYSTEM)
    assert len(addresses) == 2
    assert [one["addresses"] for one in published["endpoints"]] == [[addresses[holder]]]


def test_every_pod_is_restricted(installed: World) -> None:
    pods = json.loads(installed.node.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    ours = [pod for pod in pods if pod["metadata"]["namespace"] in (SYSTEM, USERS)]
    assert len(ours) >= 4
    for pod in ours:
        tokens = [
            source["serviceAccountToken"]["audience"]
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", ())
            if "audience" in source.get("serviceAccountToken", {})
        ]
        container = pod["spec"]["containers"][0]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], pod["metadata"]["name"]
        if pod["metadata"]["namespace"] == USERS:
            assert pod["spec"]["automountServiceAccountToken"] is False
            assert tokens == ["modelworker.dev/heartbeat"]
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts


def test_from_a_pod_with_the_documented_rights(installed: World) -> None:
    """The pod of the example: a Role that reads the objects, and a projected token."""
    manifests = example("client-pod.yaml").replace(":0.1.0", f":{TAG}")
    installed.kubectl("apply", "-f", "-", stdin=manifests)
    pod = next(one for one in yaml.safe_load_all(manifests) if one["kind"] == "Pod")
    name = pod["metadata"]["name"]
    done = eventually(
        lambda: installed.read("pod", name)["status"]["phase"],
        until=lambda phase: phase in ("Succeeded", "Failed"),
        timeout=120,
        interval=1,
        what="an end of the client's pod",
    )
    said = installed.kubectl("logs", name)
    assert done == "Succeeded", said
    assert "Paris" in said
    account = f"system:serviceaccount:{USERS}:{pod['spec']['serviceAccountName']}"
    log = installed.node.audit_log
    roles = [one for one in yaml.safe_load_all(manifests) if one["kind"] == "Role"]
    assert audit.refused(log, account) == set()
    assert audit.used(log, account) <= audit.granted(roles)


def test_from_outside_through_the_api_server(installed: World) -> None:
    found = installed.python(ASK)
    assert found["text"].strip().startswith("Paris"), found
    assert found["streamed"] == found["text"]
    assert found["worker"] in installed.workers()
    assert found["steps"] == 2
    assert 0 <= found["score"] <= 1


def test_without_a_token_a_worker_answers_401(installed: World) -> None:
    address = installed.read("mw", "smollm2")["status"]["workers"][0]["address"]
    done = installed.node.inside(["curl", "--silent", "--include", f"http://{address}/v1/models"])
    assert done.stdout.startswith("HTTP/1.1 401"), done.stdout
    assert "kubectl create token" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["status"], "AllReplicasReady", id="status"),
        pytest.param(
            ["status", "rwm/smollm2-prm", "-o", "json"], "RecipeNotCompared", id="status-json"
        ),
        pytest.param(
            ["chat", "smollm2", "What is the capital of France?", "--temperature", "0"],
            "Paris",
            id="chat",
        ),
        pytest.param(
            ["score", "smollm2-prm", "1+1?", "It is 2.", "--separator", "\n"], "0.", id="score"
        ),
        pytest.param(["logs", "smollm2", "--tail", "5"], "mw-smollm2-", id="logs"),
        pytest.param(["top"], "smollm2", id="top"),
        pytest.param(["doctor"], "OK", id="doctor"),
        pytest.param(
            ["wait", "mw/smollm2", "--for=condition=Ready", "--timeout=10s"], "smollm2", id="wait"
        ),
    ],
)
def test_the_plugin(installed: World, arguments: list[str], says: str) -> None:
    done = installed.plugin(*arguments)
    assert says in done.stdout, done.stdout + done.stderr


def test_logs_through_kubectl(installed: World) -> None:
    said = installed.kubectl("logs", "deployment/mw-smollm2")
    assert "serving smollm2" in said


def test_upgrade_leaves_workers_alone(installed: World) -> None:
    before = installed.workers()
    installed.helm("upgrade", RELEASE, str(CHART), *installed.values(logLevel="debug"), "--wait")
    listed = json.loads(installed.helm("list", "-o", "json").stdout)
    assert [(one["status"], one["revision"]) for one in listed] == [("deployed", "2")]
    crd = installed.node.kubectl("get", "crd", "modelworkers.modelworker.dev", "-o", "json")
    assert "helm.sh/resource-policy" in json.loads(crd)["metadata"]["annotations"]
    installed.ready("mw/smollm2")
    assert installed.workers() == before


def test_rollback_leaves_workers_alone(installed: World) -> None:
    before = installed.workers()
    installed.helm("rollback", RELEASE, "1", "--wait")
    installed.ready("mw/smollm2")
    assert installed.workers() == before


def test_another_operator_takes_over(installed: World) -> None:
    """The leader is deleted: heartbeats and status go on with the other, workers stay."""
    workers = installed.workers()

    def leader() -> tuple[str, list[str]]:
        lease = installed.read("lease", "modelworker-operator", namespace=SYSTEM)
        published = installed.read("endpointslice", LEADER, namespace=SYSTEM)
        addresses = [one for each in published["endpoints"] for one in each["addresses"]]
        return lease["spec"]["holderIdentity"], addresses

    before = leader()
    installed.node.kubectl("-n", SYSTEM, "delete", "pod", before[0].partition("_")[0])
    eventually(
        leader,
        until=lambda now: bool(now[0]) and now[0] != before[0] and now[1] != before[1],
        timeout=60,
        what="another leader with its address published",
    )
    installed.kubectl("scale", "mw/smollm2", "--replicas=2")
    installed.ready("mw/smollm2", replicas=2)
    assert workers.items() <= installed.workers().items()
    installed.kubectl("scale", "mw/smollm2", "--replicas=1")
    installed.ready("mw/smollm2", replicas=1)


def test_a_secret_shows_nowhere(installed: World) -> None:
    """A hub token is in its Secret and in the worker's environment, and nowhere else."""
    world = installed
    world.kubectl("create", "secret", "generic", "hub", f"--from-literal=token={CANARY}")
    source = {
        "repo": "example/private",
        "revision": "0" * 40,
        "endpoint": "http://hub.invalid",
        "tokenSecretRef": {"name": "hub"},
    }
    manifest = {
        "apiVersion": "modelworker.dev/v1alpha1",
        "kind": "ModelWorker",
        "metadata": {"name": "private"},
        "spec": {"model": {"source": {"huggingFace": source}}},
    }
    world.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    eventually(
        lambda: world.read("mw", "private")["status"]["conditions"],
        until=lambda all_: any(one["reason"] == "DownloadFailed" for one in all_),
        timeout=180,
        interval=1,
        what="DownloadFailed",
    )
    kinds = world.node.kubectl(
        "api-resources", "--verbs=list", "-o", "name", "--cached=false"
    ).split()
    kinds = [kind for kind in kinds if kind != "secrets"]
    places = {"objects": world.node.kubectl("get", ",".join(kinds), "-A", "-o", "yaml")}
    for pod in world.read("pods")["items"]:
        name = pod["metadata"]["name"]
        places[f"logs of {name}"] = world.kubectl("logs", name, "--all-containers")
    for pod in world.read("pods", namespace=SYSTEM)["items"]:
        name = pod["metadata"]["name"]
        places[f"logs of {name}"] = world.node.kubectl("-n", SYSTEM, "logs", name)
    places["command lines"] = "\n".join(
        file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if file.exists()
    )
    places["audit log"] = world.node.audit_log.read_text()
    places["plugin"] = world.plugin("status", "private", "-o", "json", check=False).stdout
    assert "DownloadFailed" in places["objects"]
    assert [name for name, text in places.items() if CANARY in text] == []
    world.kubectl("delete", "mw/private", "secret/hub")


def test_every_right_is_used_and_none_is_missing(installed: World) -> None:
    manifests = installed.helm("get", "manifest", RELEASE).stdout
    objects = [one for one in yaml.safe_load_all(manifests) if one]
    bound = {
        one["roleRef"]["name"]
        for one in objects
        if one["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and any(who["name"] == OPERATOR.rpartition(":")[2] for who in one["subjects"])
    }
    roles = [
        one
        for one in objects
        if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] in bound
    ]
    log = installed.node.audit_log
    given, needed = audit.granted(roles), audit.used(log, OPERATOR)
    print("granted:", *sorted(map(str, given)), sep="\n  ")
    assert audit.refused(log, OPERATOR) == set()
    assert sorted(map(str, given - needed)) == [], "granted, and never used"
    assert sorted(map(str, needed - given)) == [], "used, and granted by somebody else"


def test_uninstall_leaves_nothing_stuck(installed: World) -> None:
    world = installed
    before = world.workers()
    world.helm("uninstall", RELEASE, "--wait", "--timeout", "2m")
    # Objects and workers outlive the operator, and go without it.
    assert world.workers() == before
    world.kubectl("delete", "mw,rwm", "--all", "--timeout=60s")
    eventually(world.workers, until=lambda left: not left, timeout=120, what="no worker")
    for kind in ("modelworkers", "rewardmodels"):
        world.node.kubectl("delete", "crd", f"{kind}.modelworker.dev", "--timeout=60s")
    world.node.kubectl("delete", "namespace", SYSTEM, USERS, "--timeout=120s")
    left = world.node.kubectl(
        "get",
        "clusterrole,clusterrolebinding",
        "-o",
        "name",
        "-l",
        f"app.kubernetes.io/instance={RELEASE}",
    )
    assert left == ""
