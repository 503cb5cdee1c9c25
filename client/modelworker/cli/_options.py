"""The flags that verbs share, named as kubectl names them."""

from typing import Annotated, Literal

import typer

from modelworker.cli import _candidates

Access = Literal["auto", "direct", "proxy"]

Namespace = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--namespace",
        help="Namespace; by default that of the context.",
        autocompletion=_candidates.namespaces,
    ),
]
AllNamespaces = Annotated[
    bool, typer.Option("-A", "--all-namespaces", help="Look in every namespace.")
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="Context of the kubeconfig.",
        autocompletion=_candidates.contexts,
    ),
]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig.", metavar="FILE")
]
Selector = Annotated[
    str | None,
    typer.Option("-l", "--selector", help="Only objects with these labels.", metavar="LABELS"),
]
Watch = Annotated[
    bool, typer.Option("-w", "--watch", help="Go on until Ctrl-C, and show each change.")
]
Reach = Annotated[
    Access | None,
    typer.Option(
        "--access",
        help="How workers are reached: directly, through the API server, or by what works.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Objects: NAME, mw/NAME or rwm/NAME; all of them by default.",
        autocompletion=_candidates.objects,
    ),
]
Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Objects: NAME, mw/NAME or rwm/NAME.",
        autocompletion=_candidates.objects,
    ),
]
"""For verbs that do nothing without one."""
Json = Annotated[Literal["json"] | None, typer.Option("-o", "--output", help="Print JSON instead.")]
JsonOrYaml = Annotated[
    Literal["json", "yaml"] | None,
    typer.Option("-o", "--output", help="Print this instead."),
]
"""For verbs whose result is data, but no objects."""
ObjectOutput = Annotated[
    Literal["json", "yaml", "name", "wide"] | None,
    typer.Option("-o", "--output", help="Print this instead, or wide for more columns."),
]
