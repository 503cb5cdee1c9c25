"""What is known of a ModelWorker's LoRA adapters, and whether they can be called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelworker_api import kube
from modelworker_api.adapters import Adapter, AdapterReport, AdapterState
from modelworker_operator.status.facts import Facts, Verdict
from modelworker_operator.status.values import condition_of, quote
from modelworker_operator.status.workers import Worker

Reason = kube.Reason


@dataclass(frozen=True, slots=True)
class _View:
    """One adapter over all ready workers."""

    name: str
    state: AdapterState
    loaded: int
    message: str

    def entry(self) -> dict[str, Any]:
        """The entry as stored; without a message where there is nothing to say."""
        entry = {
            "name": self.name,
            "state": self.state.value,
            "loadedReplicas": self.loaded,
            "message": self.message,
        }
        return {key: value for key, value in entry.items() if value != ""}


def adapters_status(facts: Facts) -> list[dict[str, Any]]:
    """`status.adapters`: an entry for each adapter of the spec, in its order.

    Of a spec that cannot be read, what the last status says.
    """
    if facts.spec is None:
        return list(facts.worker.status.get("adapters") or ())
    return [view.entry() for view in _views(facts)]


def adapters_verdict(facts: Facts) -> Verdict | None:
    """The condition AdaptersLoaded; None where the spec has no adapters."""
    if facts.spec is None:
        return _kept(condition_of(facts.worker.status, kube.ConditionType.ADAPTERS_LOADED))
    views = _views(facts)
    if not views:
        return None
    ready = facts.ready
    if not ready:
        return Verdict(
            "False", Reason.ADAPTERS_LOADING, "no worker is ready; each loads the adapters then"
        )
    if failed := [view for view in views if view.state is AdapterState.FAILED]:
        return Verdict(
            "False",
            Reason.ADAPTER_FAILED,
            f"adapter {failed[0].name} failed, {failed[0].message} ({len(failed)} of {len(views)} "
            "adapters failed); correct its path or repository in spec.lora.adapters, or raise "
            "spec.lora.maxRank if its rank is above it",
        )
    if loading := [view for view in views if view.state is AdapterState.LOADING]:
        return Verdict(
            "False",
            Reason.ADAPTERS_LOADING,
            f"{len(views) - len(loading)} of {len(views)} adapters are loaded; "
            f"{loading[0].name} by {loading[0].loaded} of {ready} ready workers; a worker hears of "
            "a change with its next heartbeat",
        )
    return Verdict(
        "True",
        Reason.ADAPTERS_LOADED,
        f"{len(views)} of {len(views)} adapters are loaded by every ready worker ({ready})",
    )


def _kept(condition: Mapping[str, Any]) -> Verdict | None:
    if not condition:
        return None
    return Verdict(condition["status"], Reason(condition["reason"]), condition["message"])


def _views(facts: Facts) -> list[_View]:
    wanted = (facts.spec.vllm.adapters if facts.spec and facts.spec.vllm else None) or ()
    return [_view(adapter, facts) for adapter in wanted]


def _view(adapter: Adapter, facts: Facts) -> _View:
    ready = [one for one in facts.workers if one.pod.ready]
    said = [(one, _report(one, adapter, facts)) for one in ready]
    loaded = sum(report is not None and report.state is AdapterState.LOADED for _, report in said)
    for one, report in said:
        if report and report.state is AdapterState.FAILED:
            # What a status says of a worker has the pod's name in it already.
            message = quote(f"pod {one.pod.name}: {report.message}") if one.beat else report.message
            return _View(adapter.name, AdapterState.FAILED, loaded, message)
    done = bool(ready) and loaded == len(ready)
    state = AdapterState.LOADED if done else AdapterState.LOADING
    return _View(adapter.name, state, loaded, "")


def _report(one: Worker, adapter: Adapter, facts: Facts) -> AdapterReport | None:
    """What a worker says of the adapter as it is asked for now; None if nothing.

    Of one that has not spoken since the operator started, what the last status says.
    """
    if one.beat is None:
        return _stored(adapter.name, facts)
    asked = (adapter.name, adapter.location, adapter.revision)
    reports = one.beat.heartbeat.adapters
    return next((it for it in reports if (it.name, it.location, it.revision) == asked), None)


def _stored(name: str, facts: Facts) -> AdapterReport | None:
    status = facts.worker.status
    if status.get("observedGeneration") != facts.worker.generation:
        return None  # It speaks of another spec.
    entries = status.get("adapters") or ()
    entry = next((one for one in entries if one["name"] == name), None)
    if entry is None:
        return None
    state, message = AdapterState(entry["state"]), entry.get("message", "")
    return AdapterReport(name=name, state=state, message=message)
