"""What the commands touch: the cluster, the workers, the clock and the terminal.

Tests put others in their place.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

from modelworker import _errors
from modelworker.cli import _cluster, _failures
from modelworker.cli._cluster import Cluster, Target

if TYPE_CHECKING:
    from rich.console import Console


def _lm(*arguments: Any, **options: Any) -> Any:
    from modelworker import LM  # noqa: PLC0415 - only for the commands that call workers

    return LM(*arguments, **options)


def _rm(*arguments: Any, **options: Any) -> Any:
    from modelworker import RMCall  # noqa: PLC0415 - only for the commands that call workers

    return RMCall(*arguments, **options)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class World:
    """The outside of one run; `target` is what was said before the verb."""

    connect: Callable[[Target], Cluster] = _cluster.connect
    lm: Callable[..., Any] = _lm
    rm: Callable[..., Any] = _rm
    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    target: Target = field(default_factory=Target)

    def at(
        self,
        namespace: str | None,
        context: str | None,
        kubeconfig: str | None,
        *,
        everywhere: bool = False,
    ) -> Target:
        """The target of a verb: its own flags, else those before it."""
        return replace(
            self.target,
            namespace=namespace or self.target.namespace,
            context=context or self.target.context,
            kubeconfig=kubeconfig or self.target.kubeconfig,
            everywhere=everywhere,
        )

    @cached_property
    def console(self) -> "Console":
        """Standard output: with colours on a terminal, without if NO_COLOR says so."""
        from rich.console import Console  # noqa: PLC0415 - a tenth of a second

        return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def interactive(self) -> bool:
        """Whether somebody types at a terminal."""
        return sys.stdin.isatty() and sys.stdout.isatty()

    def say(self, text: str) -> None:
        """A remark beside the output."""
        typer.echo(text, err=True)


def world_of(context: typer.Context) -> World:
    """The world of this run."""
    world: World = context.find_root().obj
    return world


def caller(make: Callable[..., Any], name: str, target: Target, access: str | None) -> Any:
    """An LM or an RMCall for the target.

    Raises:
        Failure: for arguments that can never work.
    """
    try:
        return make(
            name,
            namespace=target.namespace,
            context=target.context,
            kubeconfig=target.kubeconfig,
            access=access,
        )
    except _errors.ModelWorkerError as error:
        raise _failures.of_client(error) from error
