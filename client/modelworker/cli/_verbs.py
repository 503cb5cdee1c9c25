"""The verbs as typer sees them: their flags, and which module does the work.

Each module is loaded by its own verb alone: `--help` and completion start without them.
"""

from typing import Annotated, Final

import typer

from modelworker.cli import _options as option
from modelworker.cli._verbs_calls import chat, generate, score, version
from modelworker.cli._world import world_of

Since = Annotated[
    str | None,
    typer.Option("--since", help="Only lines newer than this: 90s, 5m, 1h30m.", metavar="AGE"),
]


def status(
    context: typer.Context,
    names: option.Names = None,
    namespace: option.Namespace = None,
    everywhere: option.AllNamespaces = False,
    labels: option.Selector = None,
    output: option.ObjectOutput = None,
    watch: option.Watch = False,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Show which objects are ready, and why the others are not.

    The exit code is 1 if one of them is not ready.
    """
    from modelworker.cli import _status  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig, everywhere=everywhere)
    return _status.status(world, target, names or (), labels=labels, output=output, watch=watch)


def logs(
    context: typer.Context,
    names: option.Named = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new lines, of new pods too.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", help="Only the last lines of each pod.", metavar="LINES"),
    ] = None,
    since: Since = None,
    previous: Annotated[
        bool, typer.Option("-p", "--previous", help="Of the containers before the last restart.")
    ] = False,
    container: Annotated[
        str | None, typer.Option("-c", "--container", help="By default the worker's own.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Show the time of each line.")
    ] = False,
    operator: Annotated[
        bool, typer.Option("--operator", help="Show the operator's logs instead.")
    ] = False,
    namespace: option.Namespace = None,
    everywhere: option.AllNamespaces = False,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Show the logs of all workers of objects, each line behind the name of its pod."""
    from modelworker.cli import _logs  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig, everywhere=everywhere)
    wanted = _logs.Wanted(container, follow, previous, tail, since, timestamps)
    return _logs.logs(world, target, names or (), wanted, operator=operator)


def top(
    context: typer.Context,
    names: option.Names = None,
    namespace: option.Namespace = None,
    everywhere: option.AllNamespaces = False,
    output: option.JsonOrYaml = None,
    watch: option.Watch = False,
    access: option.Reach = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Show how busy each ready worker is: requests, KV cache, tokens per second."""
    from modelworker.cli import _top  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig, everywhere=everywhere)
    return _top.top(world, target, names or (), access=access, output=output, watch=watch)


def wait(
    context: typer.Context,
    names: option.Named = None,
    goal: Annotated[
        str,
        typer.Option(
            "--for", help="condition=TYPE, condition=TYPE=STATUS or delete.", metavar="WHAT"
        ),
    ] = "condition=Ready",
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long at most: 90s, 10m, 1h.", metavar="TIME")
    ] = "10m",
    namespace: option.Namespace = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Wait until objects are ready, with progress; end early if they never will be."""
    from modelworker.cli import _wait  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig)
    return _wait.wait(world, target, names or (), goal, timeout)


def doctor(
    context: typer.Context,
    names: option.Names = None,
    namespace: option.Namespace = None,
    everywhere: option.AllNamespaces = False,
    output: option.JsonOrYaml = None,
    access: option.Reach = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Check all that calls and workers need: CRDs, rights, operator, GPUs, storage, tokens.

    The exit code is 1 if a check failed.
    """
    from modelworker.cli import _doctor  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig, everywhere=everywhere)
    return _doctor.doctor(world, target, names or (), access=access, output=output)


VERBS: Final = (status, chat, score, logs, top, wait, doctor, generate, version)
"""In the order of the help."""
