"""The command line: its verbs, its flags, and how a run ends."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer

from modelworker import _errors
from modelworker.cli import _failures
from modelworker.cli import _options as option
from modelworker.cli._cluster import Target
from modelworker.cli._failures import Code, Failure
from modelworker.cli._verbs import VERBS
from modelworker.cli._world import World

PROGRAM: Final = "kubectl modelworker"
_SCRIPT: Final = "kubectl-modelworker"
COMPLETE_VARIABLE: Final = "_KUBECTL_MODELWORKER_COMPLETE"
"""Where the shell functions of `--install-completion` put what they ask for."""
_SHELL_FLAGS: Final = ("--install-completion", "--show-completion")

# typer has its own copy of click since 0.26 and shares the package before; it exports only
# one class of this family.
_UsageError: Final[Any] = typer.BadParameter.__base__

app = typer.Typer(
    help="Language-model and reward-model workers: why they are not ready, and calls to them.",
    epilog="Exit codes: 0; 1 not ready or failed; 2 usage; 3 no cluster or no access; 130 Ctrl-C.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def before_the_verb(
    context: typer.Context,
    namespace: option.Namespace = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> None:
    """Keep what stands before the verb; without a verb, show the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    context.obj = context.obj or World()
    context.obj.target = Target(namespace, False, kube_context, kubeconfig)


for verb in VERBS:
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(verb)


def run(arguments: Sequence[str], world: World | None = None) -> int:
    """Run one command line.

    Args:
        arguments: the words behind `kubectl modelworker`.
        world: what it touches; by default the real one.

    Returns:
        The exit code.
    """
    # The shell functions call the script, which is one word; people type two.
    shell = any(word.startswith(_SHELL_FLAGS) for word in arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(
            list(arguments),
            prog_name=_SCRIPT if shell else PROGRAM,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
            obj=world or World(),
        )
        sys.stdout.flush()
    except _UsageError as error:
        return _failed(_usage(error), Code.USAGE)
    except Failure as failure:
        return _failed(str(failure), failure.code)
    except _errors.ModelWorkerError as error:
        ended = _failures.of_client(error)
        return _failed(str(ended), ended.code)
    except (KeyboardInterrupt, typer.Abort):
        return Code.INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has no reader: let the interpreter flush it to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Code.FAILED
    return code if isinstance(code, int) else Code.OK


def _usage(error: Any) -> str:
    program = error.ctx.command_path if error.ctx else PROGRAM
    said = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{said}. Try `{program} --help`."


def _failed(message: str, code: int) -> int:
    typer.echo(f"error: {_failures.one_line(message)}", err=True)
    return code
