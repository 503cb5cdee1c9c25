"""What each name leads to, and which worker is next."""

from typing import Any

import pytest

from modelworker_operator.controller.dispatch import Dispatcher
from modelworker_operator.controller.workers import Model, Worker, directory_of


def worker(name: str, load: int = 0, **fields: Any) -> Worker:
    return Worker(
        **{"id": name, "address": f"http://{name}", "load": load, "report": name, **fields}
    )


def model(
    qualified: str,
    *names: str,
    kind: str = "ModelWorker",
    workers: tuple[Worker, ...] | None = None,
) -> Model:
    """A model of the cluster, with one worker unless told otherwise."""
    namespace, name = qualified.split("/")
    found = (worker("w"),) if workers is None else workers
    return Model(frozenset({name, *names}), (kind, namespace), lambda: found, qualified)


def external(*names: str) -> Model:
    """The model of a worker that registered itself."""
    return Model(frozenset(names), (), lambda: (worker("w"),))


# --- names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "others", "found"),
    [
        pytest.param([model("a/x", "m")], [], {"x": 1, "a/x": 1, "m": 1}, id="each-name"),
        pytest.param(
            [model("a/x", "m"), model("a/y", "m")],
            [],
            {"m": 2, "x": 1, "y": 1, "a/x": 1, "a/y": 1},
            id="shared-by-one-tenant",
        ),
        pytest.param(
            [model("a/x"), model("b/x")], [], {"x": 0, "a/x": 1, "b/x": 1}, id="two-tenants"
        ),
        pytest.param(
            [model("a/x"), model("b/x", workers=())],
            [],
            {"x": 0, "a/x": 1, "b/x": 0},
            id="the-other-tenants-worker-is-not-ready",
        ),
        pytest.param(
            [model("a/z", "b/x"), model("b/x")],
            [],
            {"b/x": 1, "x": 1, "a/z": 1, "z": 1},
            id="a-model-called-like-an-object-of-another",
        ),
        pytest.param(
            [model("a/x", "m"), model("a/x", "n", kind="RewardModel")],
            [],
            {"x": 0, "a/x": 0, "m": 1, "n": 1},
            id="two-kinds",
        ),
        pytest.param([model("a/x", workers=())], [], {"x": 0, "a/x": 0}, id="no-worker"),
        pytest.param(
            [model("a/x", workers=())],
            [external("x", "a/x", "y")],
            {"x": 0, "a/x": 0, "y": 1},
            id="external-takes-no-name",
        ),
        pytest.param([], [external("x"), external("x")], {"x": 2}, id="externals-share"),
        pytest.param([], [], {"x": 0}, id="nothing"),
    ],
)
def test_what_a_name_leads_to(own: list[Model], others: list[Model], found: dict[str, int]) -> None:
    seen = directory_of(own, others)
    assert {name: len(seen.workers(name)) for name in found} == found
    assert seen.names() == sorted(name for name, count in found.items() if count)


def test_names_by_what_the_models_see() -> None:
    sees = Model(frozenset({"eyes"}), (), lambda: (worker("e"),), multimodal=True)
    known = directory_of([model("a/x")], [sees])
    assert known.names() == ["a/x", "eyes", "x"]
    assert known.names(multimodal=True) == ["eyes"]
    assert known.names(multimodal=False) == ["a/x", "x"]


# --- who is next -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "order"),
    [
        pytest.param([], [None], id="nobody"),
        pytest.param([worker("a"), worker("b")], ["a", "b", "a", "b"], id="by-turns"),
        pytest.param([worker("a", 3), worker("b", 1)], ["b", "b", "a", "b"], id="shortest-queue"),
        pytest.param(
            [worker("a", speed=3), worker("b")], ["a", "b", "a", "a", "a", "b"], id="by-speed"
        ),
        pytest.param(
            [worker("a", silent=True), worker("b", 9)], ["b", "b", "b"], id="not-a-silent-one"
        ),
        pytest.param([worker("a", silent=True)], ["a"], id="unless-there-is-no-other"),
    ],
)
def test_the_order_in_which_workers_are_given(
    workers: list[Worker], order: list[str | None]
) -> None:
    dispatcher = Dispatcher()
    given = [dispatcher.choose(workers) for _ in order]
    assert [one.id if one else None for one in given] == order


def test_a_report_replaces_what_was_counted() -> None:
    dispatcher = Dispatcher()
    before = [worker("a", report=1), worker("b", 2, report=1)]
    assert [dispatcher.choose(before).id for _ in range(2)] == ["a", "a"]  # type: ignore[union-attr]
    assert dispatcher.queue(before[0]) == 2
    after = [worker("a", report=2), worker("b", 2, report=1)]
    assert dispatcher.queue(after[0]) == 0
    dispatcher.choose(after)
    assert dispatcher.queue(after[0]) == 1
