"""`kubectl modelworker status`: what is ready, and why the rest is not."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from modelworker.cli import _status_view as view
from modelworker.cli._cluster import Cluster, Target
from modelworker.cli._failures import Code, Failure
from modelworker.cli._gather import Gathered, gather, place_of
from modelworker.cli._output import emit, emit_names
from modelworker.cli._world import World

LOOK_SECONDS: Final = 2.0
"""Between two looks of `--watch`."""


def status(
    world: World,
    target: Target,
    names: Sequence[str],
    *,
    labels: str | None,
    output: str | None,
    watch: bool,
) -> Code:
    """Show the objects that are named, or all; the code says whether all are ready.

    Raises:
        Failure: if a name has no object, or the cluster cannot be read.
    """
    if watch and output not in (None, "wide"):
        raise Failure(f"--watch shows changes as they come; leave -o {output} out", Code.USAGE)
    cluster = world.connect(target)

    def look() -> Gathered:
        return gather(cluster, target, names, labels)

    if watch:
        _follow(world, target, look, wide=output == "wide", named=bool(names))
    found = look()
    if output == "name":
        emit_names((one.kind, one.name) for one in found.facts)
    elif output in ("json", "yaml"):
        emit({"items": [view.data(one) for one in found.facts]}, output)
    else:
        _print(world, cluster, target, found, wide=output == "wide", named=bool(names))
    for words in found.blind:
        world.say(f"warning: {words}")
    return Code.OK if all(one.ready for one in found.facts) else Code.FAILED


def _print(
    world: World, cluster: Cluster, target: Target, found: Gathered, *, wide: bool, named: bool
) -> None:
    if not found.facts:
        place = place_of(cluster, target)
        where = f"namespace {place}" if place else "any namespace"
        world.say(
            f"no ModelWorker or RewardModel in {where}; "
            "`kubectl modelworker generate --help` shows how to write one"
        )
    for line in _lines(world, target, found, wide=wide, named=named):
        world.console.print(line)


def _lines(
    world: World, target: Target, found: Gathered, *, wide: bool, named: bool
) -> Iterator[Text]:
    """A table of all objects, then what is known of those that are named or not ready."""
    now = world.now()
    if not named and found.facts:
        yield from view.overview(found.facts, now, everywhere=target.everywhere, wide=wide)
    shown = [one for one in found.facts if named or not one.ready]
    for place, one in enumerate(shown):
        if place or not named:
            yield Text("")
        yield from view.detail(one, now, wide=wide)


def _follow(
    world: World,
    target: Target,
    look: Callable[[], Gathered],
    *,
    wide: bool,
    named: bool,
) -> NoReturn:
    """Show what changes until Ctrl-C: in place on a terminal, else a line for each change."""
    if not world.console.is_terminal:
        seen = Gathered(())
        while True:
            found = look()
            for line in view.changes(seen.facts, found.facts):
                typer.echo(line)
            seen = found
            world.sleep(LOOK_SECONDS)
    with Live(console=world.console, auto_refresh=False) as live:
        while True:
            live.update(Group(*_lines(world, target, look(), wide=wide, named=named)), refresh=True)
            world.sleep(LOOK_SECONDS)
