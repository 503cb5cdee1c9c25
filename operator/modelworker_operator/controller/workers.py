"""The workers that FastChat's clients may be sent to, and the names that lead to them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from modelworker_api import wire
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.resources import OWNERS, PODS
from modelworker_operator.spec import Identity, identify, parse
from modelworker_operator.status.values import Observed, Pod, owned
from modelworker_operator.store import Entry, Key, Store

Beats = Callable[[Iterable[str]], Mapping[str, tuple[wire.Heartbeat, float]]]
"""The heartbeats of pods by uid, each with its age in seconds."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that can be called now."""

    id: str
    """What no other worker has: the pod's uid, or an external worker's URL."""
    address: str
    """Base URL."""
    load: int
    """Requests that ran or waited at the last report; 0 before the first."""
    report: object
    """The last report itself, None before the first: another object is another report."""
    speed: int = 1
    """Requests that it works on as fast as another one works on one."""
    silent: bool = False
    """Whether its last report is too old."""


@dataclass(frozen=True, slots=True)
class Model:
    """What one object, or one external worker, serves, and who serves it now."""

    names: frozenset[str]
    tenant: tuple[str, ...]
    """Kind and namespace; one name never leads to models of two tenants."""
    find: Callable[[], tuple[Worker, ...]]
    """Looks for the workers: only those of the model that is asked for are worth it."""
    qualified: str | None = None
    """NAMESPACE/NAME of the object: its name whatever others are called."""
    multimodal: bool = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that can be called now."""
        return self.find()


@dataclass(frozen=True, slots=True)
class Directory:
    """Which model each name leads to."""

    models: Mapping[str, tuple[Model, ...]]
    ambiguous: frozenset[str]
    """Names that more than one tenant has; they lead nowhere."""

    def workers(self, name: str) -> tuple[Worker, ...]:
        """The workers behind a name, none for one that is unknown."""
        return tuple(worker for model in self.models.get(name, ()) for worker in model.workers)

    def names(self, *, multimodal: bool | None = None) -> list[str]:
        """The names with a worker behind them, sorted.

        Args:
            multimodal: Those that do, or do not, see images; None for all.
        """
        # Most models have several names; to look for their workers is what takes time.
        serving = {
            id(model): multimodal in (None, model.multimodal) and bool(model.workers)
            for model in self._distinct()
        }
        return sorted(
            name
            for name, models in self.models.items()
            if any(serving[id(model)] for model in models)
        )

    def all_workers(self) -> tuple[Worker, ...]:
        """Every worker that some name leads to, once."""
        return tuple(worker for model in self._distinct() for worker in model.workers)

    def _distinct(self) -> Iterable[Model]:
        return {id(model): model for models in self.models.values() for model in models}.values()


def directory_of(own: Iterable[Model], external: Iterable[Model]) -> Directory:
    """Who answers to which name. A name of an own model is never an external worker's.

    Args:
        own: The models of the cluster, those without a worker too: that a tenant's worker
            is not ready must not hand its name to another tenant.
        external: The models of workers that registered themselves.
    """
    own = tuple(own)
    reserved = {model.qualified for model in own if model.qualified}
    found: dict[str, list[Model]] = defaultdict(list)
    for model in own:
        if model.qualified:
            found[model.qualified].append(model)
        for name in model.names - reserved:
            found[name].append(model)
    ambiguous = frozenset(
        name for name, models in found.items() if len({model.tenant for model in models}) > 1
    )
    taken = frozenset(found)
    for model in external:
        for name in model.names - taken:
            found[name].append(model)
    return Directory(
        {name: tuple(models) for name, models in found.items() if name not in ambiguous},
        ambiguous,
    )


class ClusterModels:
    """The models of the cluster, from the operator's view of it.

    Args:
        store: The objects and their pods.
        beats: The heartbeats of pods.
        namespaces: Those whose models may be told of; all if empty.
    """

    def __init__(self, store: Store, beats: Beats, namespaces: Collection[str]) -> None:
        self._store = store
        self._beats = beats
        self._namespaces = frozenset(namespaces)
        # Parsed once for each version of an object: an address is asked for with every request.
        self._objects: dict[Key, tuple[str, int, _Object]] = {}
        self._pods: dict[Key, dict[str, tuple[int, Pod]]] = {}

    def now(self) -> tuple[Model, ...]:
        """Every model at this moment."""
        self._objects = dict(self._known())
        self._pods = {key: pods for key, pods in self._pods.items() if key in self._objects}
        return tuple(
            Model(
                names=found.names,
                tenant=(key.kind.kind, key.namespace),
                find=partial(self._workers, key, found),
                qualified=found.qualified,
            )
            for key, (_, _, found) in self._objects.items()
        )

    def _known(self) -> Iterator[tuple[Key, tuple[str, int, "_Object"]]]:
        """Each object with its uid and version."""
        for key in self._store.objects():
            entry = self._store.get(OWNERS[key.kind], key.namespace, key.name)
            if entry is None or (self._namespaces and key.namespace not in self._namespaces):
                continue
            known = self._objects.get(key)
            if known is None or known[:2] != (entry.uid, entry.version):
                known = (entry.uid, entry.version, _object(key, entry))
            yield key, known

    def _workers(self, key: Key, found: "_Object") -> tuple[Worker, ...]:
        known, pods = self._pods.get(key, {}), {}
        for child in self._store.children(key, PODS):
            seen = known.get(child.uid)
            pods[child.uid] = (
                seen if seen and seen[0] == child.version else (child.version, Pod(child.load()))
            )
        self._pods[key] = pods
        return tuple(self._ready(found, [pod for _, pod in pods.values() if pod.ready]))

    def _ready(self, found: "_Object", pods: Sequence[Pod]) -> Iterator[Worker]:
        observed = Observed(None, None, tuple(pod.raw for pod in pods))
        mine = [Pod(raw) for raw in owned(found.identity, observed).pods]
        beats = self._beats([pod.uid for pod in mine])
        for pod in mine:
            said, age = beats.get(pod.uid, (None, 0.0))
            # It may know of its end before the kubelet does.
            if said is not None and said.state is not wire.LoadState.READY:
                continue
            yield Worker(
                id=pod.uid,
                address=f"http://{pod.address}",
                load=said.running + said.waiting if said else 0,
                report=said,
                silent=age > found.stale_after_seconds,
            )


@dataclass(frozen=True, slots=True)
class _Object:
    """What of an object does not change with its pods."""

    identity: Identity
    names: frozenset[str]
    qualified: str
    stale_after_seconds: float


def _object(key: Key, entry: Entry) -> _Object:
    raw = entry.load()
    names = {key.name}
    stale_after = float("inf")
    try:
        spec = parse(key.kind, raw).spec
    except InvalidSpec:
        pass  # Its status says so; workers of an earlier spec may still answer.
    else:
        names.add(spec.model.name)
        stale_after = spec.heartbeat.stale_after_seconds
    return _Object(
        identity=identify(key.kind, raw),
        names=frozenset(names),
        qualified=f"{key.namespace}/{key.name}",
        stale_after_seconds=stale_after,
    )
