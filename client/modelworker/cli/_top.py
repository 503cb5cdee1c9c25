"""`kubectl modelworker top`: how busy each worker is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn

from rich.console import Group
from rich.live import Live
from rich.text import Text

from modelworker.cli._cluster import Cluster, Target
from modelworker.cli._facts import Facts, Worker
from modelworker.cli._failures import Code, Failure, Refused
from modelworker.cli._gather import gather
from modelworker.cli._metrics import Sample, Usage, sample_of, usage_of
from modelworker.cli._output import BAD, Cell, Row, compact, emit, table
from modelworker.cli._reach import Reach
from modelworker.cli._world import World
from modelworker_api import wire

SECONDS: Final = 2.0
"""Between two looks, of which a rate is made."""
_AT_ONCE: Final = 16

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """One worker, with its look or with why there is none."""

    of: Facts
    worker: Worker
    sample: Sample | None = None
    problem: str = ""

    @property
    def key(self) -> Key:
        """Which pod it is."""
        return (self.of.namespace, self.worker.pod)


def top(
    world: World,
    target: Target,
    names: Sequence[str],
    *,
    access: str | None,
    output: str | None,
    watch: bool,
) -> Code:
    """Show how busy the ready workers are; 1 if one does not say.

    Raises:
        Failure: if a name has no object, or the workers may not be asked.
    """
    if watch and output:
        raise Failure(f"--watch shows look after look; leave -o {output} out", Code.USAGE)
    cluster = world.connect(target)
    reach = Reach(cluster, access)
    before: dict[Key, Sample] = {}

    def look() -> list[Seen]:
        return _look(world, cluster, target, names, reach)

    def rows(seen: Sequence[Seen]) -> list[Row]:
        found = [row(one, before.get(one.key), everywhere=target.everywhere) for one in seen]
        before.update({one.key: one.sample for one in seen if one.sample})
        return found

    header = [*(["NAMESPACE"] if target.everywhere else []), *HEADER]
    first = look()
    rows(first)
    if not first:
        world.say("no worker is ready; `kubectl modelworker status` tells why")
        return Code.FAILED if names else Code.OK
    if watch:
        _follow(world, lambda: table(header, rows(look())))
    world.sleep(SECONDS)
    seen = look()
    if output:
        emit({"items": [data(one, before.get(one.key)) for one in seen]}, output)
    else:
        for line in table(header, rows(seen)):
            world.console.print(line)
    return Code.OK if all(one.sample for one in seen) else Code.FAILED


def _follow(world: World, look: Callable[[], list[Text]]) -> NoReturn:
    """Show look after look until Ctrl-C: in place on a terminal, else one below the other."""
    if not world.console.is_terminal:
        while True:
            world.sleep(SECONDS)
            for line in look():
                world.console.print(line)
    with Live(console=world.console, auto_refresh=False) as live:
        while True:
            world.sleep(SECONDS)
            live.update(Group(*look()), refresh=True)


def _look(
    world: World, cluster: Cluster, target: Target, names: Sequence[str], reach: Reach
) -> list[Seen]:
    facts = gather(cluster, target, names, events=False).facts
    ready = [(one, worker) for one in facts for worker in one.workers if worker.ready]
    if ready:
        reach.way(ready[0][1])

    def ask(which: tuple[Facts, Worker]) -> Seen:
        one, worker = which
        try:
            answer = reach.fetch(one.namespace, worker, "/metrics")
            sample = sample_of(answer.text, answer.headers.get(wire.HEADER_LOAD), world.clock())
        except Refused as error:
            if error.denied:
                raise
            return Seen(one, worker, problem=str(error))
        except (Failure, ValueError) as error:
            return Seen(one, worker, problem=str(error))
        return Seen(one, worker, sample)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, ready))


HEADER: Final = ("NAME", "WORKER", "RUNNING", "WAITING", "KV CACHE", "TOKENS/S", "PROMPT TOKENS/S")


def row(one: Seen, before: Sample | None, *, everywhere: bool) -> Row:
    """One line of the table."""
    place = [one.of.namespace] if everywhere else []
    if one.sample is None:
        return [*place, one.of.ref, one.worker.pod, "-", "-", "-", "-", Cell(one.problem, BAD)]
    usage = usage_of(one.sample, before)
    return [
        *place,
        one.of.ref,
        one.worker.pod,
        str(usage.running),
        str(usage.waiting),
        "-" if usage.kv_cache is None else f"{usage.kv_cache:.0%}",
        _rate(usage.tokens_per_second),
        _rate(usage.prompt_tokens_per_second),
    ]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


def data(one: Seen, before: Sample | None) -> dict[str, Any]:
    """One worker for `-o json`."""
    usage: Usage | None = usage_of(one.sample, before) if one.sample else None
    said = asdict(usage) if usage else {}
    return compact(
        {
            "kind": one.of.kind.kind,
            "namespace": one.of.namespace,
            "name": one.of.name,
            "worker": one.worker.pod,
            "running": said.get("running"),
            "waiting": said.get("waiting"),
            "kvCache": said.get("kv_cache"),
            "tokensPerSecond": said.get("tokens_per_second"),
            "promptTokensPerSecond": said.get("prompt_tokens_per_second"),
            "error": one.problem or None,
        }
    )
