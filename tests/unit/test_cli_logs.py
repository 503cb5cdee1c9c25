"""`logs`: all pods, in order of time, and what is followed."""

from typing import TYPE_CHECKING, Any

import pytest

from modelworker.cli._app import run
from modelworker.cli._failures import Refused
from modelworker.cli._log_lines import Following, Source, moment
from modelworker_api import kube
from tests.cli_support import LEASES, OBJECTS, PODS, FakeCluster, body, forbidden, pod, seen, world

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = {
    "p-1": ["2026-01-01T00:00:01.5Z one", "2026-01-01T00:00:03Z three"],
    "p-2": ["2026-01-01T00:00:01.25Z zero", "2026-01-01T00:00:02Z two words"],
}


def cluster(**logs: Any) -> FakeCluster:
    """One ModelWorker with two pods."""
    return FakeCluster(
        {
            OBJECTS[kube.MODELWORKER]: [body("policy")],
            OBJECTS[kube.REWARDMODEL]: [],
            PODS: [pod(name, "policy") for name in LINES],
            **{f"{PODS}/{name}/log": logs.get(name, lines) for name, lines in LINES.items()},
        }
    )


def test_lines_of_all_pods_in_order_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "policy"], world(cluster())) == 0
    assert capsys.readouterr().out.splitlines() == [
        "p-2 zero",
        "p-1 one",
        "p-2 two words",
        "p-1 three",
    ]


def test_flags_reach_the_api_server() -> None:
    fake = cluster()
    flags = ["--tail=3", "--since=5m", "-p", "-c", "sidecar"]
    assert run(["logs", "policy", *flags], world(fake)) == 0
    assert dict(fake.asked)[f"{PODS}/p-1/log"] == {
        "tailLines": "3",
        "sinceSeconds": "300",
        "previous": "true",
        "container": "sidecar",
        "timestamps": "true",
    }


def test_times_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "policy", "--timestamps"], world(cluster())) == 0
    assert capsys.readouterr().out.splitlines()[0] == "p-2 2026-01-01T00:00:01.25Z zero"


@pytest.mark.parametrize(
    ("arguments", "answers", "code", "words"),
    [
        pytest.param(["policy"], {"p-1": forbidden("no pods/log")}, 3, "no pods/log", id="denied"),
        pytest.param(
            ["policy"],
            {"p-1": Refused(400, "container is waiting to start", "/x")},
            1,
            "p-1 (no log: container is waiting to start)",
            id="not-begun",
        ),
        pytest.param([], {}, 2, "pass --operator", id="nothing-named"),
        pytest.param(["policy", "--operator"], {}, 2, "pass --operator", id="both"),
        pytest.param(["policy", "-f", "-p"], {}, 2, "leave --follow out", id="follow-the-past"),
        pytest.param(["policy", "--since", "x"], {}, 2, "no duration", id="since"),
        pytest.param(["other"], {}, 1, "no ModelWorker or RewardModel 'other'", id="no-object"),
    ],
)
def test_what_goes_wrong(
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    answers: dict[str, Any],
    code: int,
    words: str,
) -> None:
    assert run(["logs", *arguments], world(cluster(**answers))) == code
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_operator_is_found_by_its_lease(capsys: pytest.CaptureFixture[str]) -> None:
    place = "/api/v1/namespaces/sys/pods"
    labels = {"app": "op", "pod-template-hash": "1"}
    pods = [
        {"metadata": {"name": name, "namespace": "sys", "labels": labels}}
        for name in ("o-1", "o-2")
    ]
    lease = {
        "metadata": {"namespace": "sys"},
        "spec": {"holderIdentity": "o-1_uuid", "renewTime": seen(1), "leaseDurationSeconds": 15},
    }
    fake = FakeCluster(
        {
            LEASES: [lease],
            f"{place}/o-1": pods[0],
            place: pods,
            f"{place}/o-1/log": ["2026-01-01T00:00:01Z leading"],
            f"{place}/o-2/log": ["2026-01-01T00:00:02Z standing by"],
        }
    )
    assert run(["logs", "--operator"], world(fake)) == 0
    assert capsys.readouterr().out.splitlines() == ["o-1 leading", "o-2 standing by"]
    assert ("labelSelector", "app=op") in dict(fake.asked)[place].items()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param("2026-01-01T00:00:01Z a", "2026-01-01T00:00:01.1Z b", id="no-fraction"),
        pytest.param("2026-01-01T00:00:01.1Z a", "2026-01-01T00:00:01.12Z b", id="longer-fraction"),
        pytest.param("- none", "2026-01-01T00:00:01Z b", id="no-time-is-first"),
    ],
)
def test_moments_sort(earlier: str, later: str) -> None:
    assert moment(earlier) < moment(later)


def test_following_goes_on_after_a_restart_and_with_new_pods() -> None:
    """What was shown is not shown again, though the API server counts in whole seconds."""
    first, second = Source("ns", "p-1", "worker"), Source("ns", "p-2", "worker")
    rounds: Iterator[list[str]] = iter(
        [
            ["2026-01-01T00:00:01.5Z one"],
            ["2026-01-01T00:00:01.5Z one", "2026-01-01T00:00:02Z two"],
        ]
    )
    fake = FakeCluster(
        {
            f"{PODS}/p-1/log": lambda: next(rounds, []),
            f"{PODS}/p-2/log": ["2026-01-01T00:00:09Z hello"],
        }
    )
    shown: list[tuple[str, str]] = []

    def show(source: Source, line: str) -> None:
        shown.append((source.pod, line.partition(" ")[2]))
        if len(shown) == 3:
            raise KeyboardInterrupt

    sources = iter([[first], [first], [first, second]])
    ticks = iter(range(0, 10_000, 5))
    following = Following(fake, {"tailLines": "1", "follow": "true"}, show, lambda: next(ticks))
    with pytest.raises(KeyboardInterrupt):
        following.run(lambda: next(sources, [first, second]))
    assert sorted(shown) == [("p-1", "one"), ("p-1", "two"), ("p-2", "hello")]
    later = [query for path, query in fake.asked if "sinceTime" in query]
    assert later[0]["sinceTime"] == "2026-01-01T00:00:01Z"
    assert "tailLines" not in later[0]
