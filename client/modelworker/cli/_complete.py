"""What kubectl asks when somebody presses Tab behind `kubectl modelworker`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import typer

from modelworker.cli._app import COMPLETE_VARIABLE, PROGRAM, app
from modelworker.cli._world import World

# kubectl takes the directives of cobra, whose shell functions it has.
DEFAULT: Final = 0
NO_FILES: Final = 4
_FILE_OPTIONS: Final = ("--kubeconfig",)

# typer has its own copy of click since 0.26 and shares the package before.
_CLICK: Final = typer.BadParameter.__module__.rpartition(".")[0]


def run(words: Sequence[str], world: World | None = None) -> int:
    """Print the completions of the last word, one a line, and then the directive."""
    found, directive = completions(words, world)
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(f":{directive}\n")
    return 0


def completions(words: Sequence[str], world: World | None = None) -> tuple[list[str], int]:
    """The completions of the last word, each with its help after a tab, and the directive."""
    *before, incomplete = words or ("",)
    if before and before[-1] in _FILE_OPTIONS:
        return [], DEFAULT
    # Any shell's class will do: it is what they have in common that finds the completions.
    shells: Any = import_module("typer.completion")
    shells.completion_init()
    shell: Any = import_module(f"{_CLICK}.shell_completion")
    complete = shell.get_completion_class("bash")(
        typer.main.get_command(app), {"obj": world or World()}, PROGRAM, COMPLETE_VARIABLE
    )
    items = complete.get_completions(before, incomplete)
    return [_line(item) for item in items], NO_FILES


def _line(item: Any) -> str:
    about = " ".join((item.help or "").split())
    return f"{item.value}\t{about}" if about else str(item.value)
