"""`python -m modelworker_devcluster`."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from modelworker_devcluster import binaries, logs, settings
from modelworker_devcluster.choices import Choices
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.images import command as images
from modelworker_devcluster.instances import Instance
from modelworker_devcluster.node import shell
from modelworker_devcluster.run import run

_GPU = "nvidia.com/gpu"
_TOOLS: dict[str, Callable[[binaries.Progress], Iterable[Path]]] = {
    "control-plane": lambda say: [binaries.locate(say)],
    "node": lambda say: binaries.locate_node(say).values(),
    "helm": lambda say: [binaries.locate_helm(say)],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line, None for this process's own.

    Returns:
        The exit code: 0 if it worked, 1 if not, the command's own for `run`.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.call(options)
    except DevClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `logs | head`
        return 0
    return code


def _up(options: argparse.Namespace) -> int:
    instance = Instance(options.name)
    record = instance.up(_choices(options), _say)
    print(f"export KUBECONFIG={shlex.quote(str(instance.layout.kubeconfig))}")
    print(f"export PATH={shlex.quote(record.binaries)}:$PATH")
    _say(f"devcluster {instance.name} is ready; `down --name {instance.name}` ends it")
    return 0


def _down(options: argparse.Namespace) -> int:
    existed = Instance(options.name).down()
    print(f"devcluster {options.name}: {'stopped' if existed else 'nothing was running'}")
    return 0


def _status(options: argparse.Namespace) -> int:
    instance = Instance(options.name)
    record = instance.record()
    shown = {
        "name": instance.name,
        "state": str(instance.state()),
        "kubeconfig": str(instance.layout.kubeconfig) if record and record.server else None,
        "server": record.server or None if record else None,
        "pid": record.pid if record else None,
        "components": dict(record.pids) if record else {},
        "has": str(record.choices) if record else None,
    }
    if options.output == "json":
        print(json.dumps(shown, indent=2))
        return 0
    for key, value in shown.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}={item}" for name, item in value.items())  # noqa: PLW2901
        print(f"{key + ':':<12} {value or '-'}")
    return 0


def _kubeconfig(options: argparse.Namespace) -> int:
    instance = Instance(options.name)
    instance.running()
    print(instance.layout.kubeconfig)
    return 0


def _logs(options: argparse.Namespace) -> int:
    layout = Instance(options.name).layout
    if not layout.directory.exists():
        raise DevClusterError(f"devcluster {options.name} does not run: there are no logs")
    if options.what is None:
        for name in logs.component_logs(layout):
            print(name)
        for namespace, name in logs.pod_folders(layout):
            print(f"{name} -n {namespace}")
        return 0
    file = logs.find(
        layout,
        options.what,
        namespace=options.namespace,
        container=options.container,
        previous=options.previous,
    )
    for line in logs.read(file, tail=options.tail, follow=options.follow):
        print(line, end="", flush=options.follow)
    return 0


def _run(options: argparse.Namespace) -> int:
    return run(options.command, _choices(options), _say)


def _node(options: argparse.Namespace) -> int:
    command = options.command or [settings.shell()]
    return shell.run(command, images=options.image, inside=options.inside, say=_say)


def _binaries(options: argparse.Namespace) -> int:
    for name in options.tools or ["control-plane"]:
        print(*_TOOLS[name](_say), sep="\n")
    return 0


def _images(options: argparse.Namespace) -> int:
    return images.run(options, _say)


def _say(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def _choices(options: argparse.Namespace) -> Choices:
    if options.no_node and options.capacity:
        raise DevClusterError("--capacity is of a node, and --no-node is for none; drop one")
    gpus = {} if options.gpus is None else {_GPU: str(options.gpus)}
    node = None if options.no_node else gpus | dict(options.capacity)
    return Choices(node, options.operator)


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form RESOURCE=QUANTITY")
    return key, value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m modelworker_devcluster",
        description="A real Kubernetes on one machine, without root and without containers: "
        "pods run as local processes.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str, *, named: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        added.set_defaults(call=globals()[f"_{name}"])
        if named:
            added.add_argument(
                "--name", default="default", help="which cluster (default: %(default)s)"
            )
        return added

    def choices(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--operator", action="store_true", help="apply the CRDs and run the operator too"
        )
        added = command.add_mutually_exclusive_group()
        added.add_argument(
            "--no-node", action="store_true", help="the control plane alone: pods stay Pending"
        )
        added.add_argument("--gpus", type=_count, metavar="N", help=f"the node's {_GPU}")
        command.add_argument(
            "--capacity",
            type=_pair,
            action="append",
            default=[],
            metavar="RESOURCE=QUANTITY",
            help="more capacity of the node; can be repeated",
        )

    choices(command("up", "start a cluster that stays, unless it runs, and print how to use it"))
    command("down", "end a cluster and remove its files")
    status = command("status", "say what a cluster does")
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    command("kubeconfig", "print the path of a cluster's kubeconfig")
    log = command("logs", "print the log of a component or a pod; with neither, list them")
    log.add_argument("what", nargs="?", metavar="COMPONENT|POD")
    log.add_argument("-n", "--namespace", default="default", help="the pod's namespace")
    log.add_argument("-c", "--container", help="the container, if the pod has several")
    log.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    log.add_argument("--tail", type=_count, metavar="N", help="only the last N lines")
    log.add_argument("--previous", action="store_true", help="the run before the last restart")
    started = command(
        "run",
        "start a cluster, run a command with its KUBECONFIG, and take the cluster down",
        named=False,
    )
    choices(started)
    started.add_argument("command", nargs="+", metavar="CMD", help="the command, after --")
    node = command(
        "node",
        "start a real node with containers (as root), run a command, and take the node down",
        named=False,
    )
    node.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="ARCHIVE",
        help="images that the node is to have, as `docker save` writes them; can be repeated",
    )
    node.add_argument(
        "--inside",
        action="store_true",
        help="run the command on the node, where pods and Services answer; "
        "else it reaches the API server alone",
    )
    node.add_argument(
        "command", nargs="*", metavar="CMD", help="the command, after -- (default: a shell)"
    )
    fetch = command("binaries", "fetch or build binaries, and print where they are", named=False)
    fetch.add_argument(
        "--tools",
        action="append",
        choices=_TOOLS,
        help="which; can be repeated (default: control-plane, which `up` and `run` need)",
    )
    images.add_arguments(command("images", "build the container images", named=False))
    return parser
