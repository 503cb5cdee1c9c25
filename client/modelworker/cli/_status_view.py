"""How `status` shows what is known: lines for people, plain data for programs. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from modelworker.cli._facts import Condition, Facts, Happened, Worker, age
from modelworker.cli._output import BAD, BUSY, DIM, GOOD, Cell, Row, compact, table
from modelworker_api.kube import ConditionType, Reason, WorkerState

if TYPE_CHECKING:
    from rich.text import Text

_STYLES: Final = {WorkerState.READY.value: GOOD, WorkerState.FAILED.value: BAD, "Gone": BAD}
_IN_VIEW: Final = {ConditionType.READY, ConditionType.ACCEPTED, ConditionType.AVAILABLE}
"""The conditions whose words are shown at the head."""
_INDENT: Final = "  "


def overview(
    facts: Sequence[Facts], now: datetime, *, everywhere: bool = False, wide: bool = False
) -> "list[Text]":
    """A line for each object."""
    header = ["NAME", "READY", "REASON", "MODEL", "GPUS", "AGE"]
    header = (["NAMESPACE"] if everywhere else []) + header
    header += ["BACKEND", "MESSAGE"] if wide else []
    rows = [_row(one, now, everywhere=everywhere, wide=wide) for one in facts]
    return table(header, rows)


def _row(one: Facts, now: datetime, *, everywhere: bool, wide: bool) -> Row:
    style = GOOD if one.ready else BUSY if one.rejected is None else BAD
    return [
        *([one.namespace] if everywhere else []),
        one.ref,
        Cell(f"{one.ready_replicas}/{one.desired}", style),
        Cell(one.reason, style),
        one.model,
        str(one.gpus),
        age(one.since, now),
        *([one.backend or "-", one.message] if wide else []),
    ]


def detail(one: Facts, now: datetime, *, wide: bool = False) -> "list[Text]":
    """Everything about one object."""
    from rich.text import Text  # noqa: PLC0415 - a tenth of a second

    style = GOOD if one.ready else BUSY if one.rejected is None else BAD
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(one.ref, "bold")
    head.append(f" in {one.namespace}: {one.ready_replicas} of {one.desired} workers ready, ")
    head.append(one.reason, style)
    gpus = f", {one.gpus} GPUs each" if one.gpus else ""
    about: list[tuple[str, str]] = [
        ("model", f"{one.model}{', ' if one.backend else ''}{one.backend}{gpus}"),
        ("why", one.message),
        *((said.type, f"{said.reason}: {said.message}") for said in _more(one)),
    ]
    if one.advice:
        about.append(("next", one.advice))
    lines = [head, *table([], [[Cell(key, DIM), text] for key, text in about], _INDENT)]
    if one.workers:
        lines += table(_worker_header(wide=wide), _workers(one, now, wide=wide), _INDENT)
    if one.not_listed:
        lines.append(Text(f"{_INDENT}and {one.not_listed} more workers"))
    said = {condition.message for condition in one.conditions}
    events = [event for event in one.events if event.message not in said]
    if events and not one.ready:
        header = ["SEEN", "TYPE", "EVENT", "OF", "MESSAGE"]
        lines += table(header, [_event(event, now) for event in events], _INDENT)
    return lines


def _more(one: Facts) -> list[Condition]:
    """The other conditions that have something to say."""
    return [
        said
        for said in one.conditions
        if said.type not in _IN_VIEW
        and not (one.ready and said.type == ConditionType.PROGRESSING)
        and not (said.holds and said.reason != Reason.ROLLOUT_IN_PROGRESS)
    ]


def _worker_header(*, wide: bool) -> list[str]:
    header = ["WORKER", "STATE", "PROGRESS", "NODE", "RESTARTS", "AGE"]
    return header + (["HEARTBEAT", "ADDRESS", "REVISION", "DTYPE"] if wide else [])


def _workers(one: Facts, now: datetime, *, wide: bool) -> list[Row]:
    return [
        [
            worker.pod,
            Cell(worker.state, _STYLES.get(worker.state, BUSY)),
            "-" if worker.progress is None else f"{worker.progress}%",
            worker.node or "-",
            Cell("-" if worker.restarts is None else str(worker.restarts), _alarm(worker)),
            age(worker.since, now),
            *(
                [
                    worker.heartbeat or "-",
                    worker.address or "-",
                    (worker.revision or "-")[:12],
                    worker.dtype or "-",
                ]
                if wide
                else []
            ),
        ]
        for worker in one.workers
    ]


def _alarm(worker: Worker) -> str:
    return BAD if worker.restarts else ""


def _event(event: Happened, now: datetime) -> Row:
    times = f" ({event.count} times)" if event.count > 1 else ""
    return [
        f"{age(event.at, now)} ago",
        Cell(event.type, BUSY if event.type == "Warning" else DIM),
        event.reason,
        event.about,
        f"{' '.join(event.message.split())}{times}",
    ]


def data(one: Facts) -> dict[str, Any]:
    """One object for `-o json` and `-o yaml`."""
    return compact(
        {
            "kind": one.kind.kind,
            "namespace": one.namespace,
            "name": one.name,
            "ready": one.ready,
            "replicas": one.desired,
            "readyReplicas": one.ready_replicas,
            "reason": one.reason,
            "message": one.message,
            "nextStep": one.advice,
            "model": one.model,
            "backend": one.backend or None,
            "gpus": one.gpus,
            "conditions": [
                {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message}
                for c in one.conditions
            ],
            "workers": [
                compact(
                    {
                        "pod": worker.pod,
                        "state": worker.state,
                        "progress": worker.progress,
                        "node": worker.node,
                        "restarts": worker.restarts,
                        "address": worker.address,
                        "heartbeat": worker.heartbeat,
                    }
                )
                for worker in one.workers
            ],
            "events": [
                compact(
                    {
                        "time": event.at.isoformat() if event.at else None,
                        "type": event.type,
                        "reason": event.reason,
                        "about": event.about,
                        "message": event.message,
                        "count": event.count,
                    }
                )
                for event in one.events
            ],
        }
    )


def changes(before: Sequence[Facts], now: Sequence[Facts]) -> list[str]:
    """A line for each object that is new, gone or says something else than before."""
    old = {(one.kind, one.namespace, one.name): _summary(one) for one in before}
    new = {(one.kind, one.namespace, one.name): _summary(one) for one in now}
    gone = [f"{kind.short}/{name} is gone" for kind, _, name in old if (kind, _, name) not in new]
    return [line for key, line in new.items() if old.get(key) != line] + gone


def _summary(one: Facts) -> str:
    progress = [f"{w.pod} {w.state}{_percent(w)}" for w in one.workers if not w.ready]
    return (
        f"{one.ref} {one.ready_replicas}/{one.desired} {one.reason}: {one.message}"
        f"{' [' if progress else ''}{', '.join(progress)}{']' if progress else ''}"
    )


def _percent(worker: Worker) -> str:
    return "" if worker.progress is None else f" {worker.progress}%"
