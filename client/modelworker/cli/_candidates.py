"""What may be completed: names of objects, namespaces and contexts, from the cluster.

Completion never fails: where nothing can be found out there is nothing to offer.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import typer

from modelworker.cli._cluster import Target, contexts_of, core_path, objects_path
from modelworker.cli._failures import Failure
from modelworker.cli._names import KIND_WORDS
from modelworker.cli._world import World
from modelworker_api import kube

_LISTED: Final = "500"


def objects(context: typer.Context, incomplete: str) -> list[str]:
    """Names of objects; with a kind before a slash, of that kind."""
    return _objects(context, incomplete, kube.KINDS)


def modelworkers(context: typer.Context, incomplete: str) -> list[str]:
    """Names of ModelWorkers."""
    return _objects(context, incomplete, (kube.MODELWORKER,))


def rewardmodels(context: typer.Context, incomplete: str) -> list[str]:
    """Names of RewardModels."""
    return _objects(context, incomplete, (kube.REWARDMODEL,))


def _objects(context: typer.Context, incomplete: str, kinds: tuple[kube.Kind, ...]) -> list[str]:
    before, slash, _ = incomplete.rpartition("/")
    if slash:
        kinds = tuple(kind for kind in kinds if KIND_WORDS.get(before.lower()) == kind)
    found = [
        f"{before}{slash}{name}"
        for kind in kinds
        for name in _items(context, partial(objects_path, kind))
    ]
    return sorted(name for name in found if name.startswith(incomplete))


def namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Names of namespaces."""
    found = _items(context, lambda _: core_path("namespaces", None))
    return [name for name in found if name.startswith(incomplete)]


def contexts(context: typer.Context, incomplete: str) -> list[str]:
    """Contexts of the kubeconfig."""
    return [one for one in contexts_of(_target(context).kubeconfig) if one.startswith(incomplete)]


def _items(context: typer.Context, path: Callable[[str], str]) -> list[str]:
    """Names of the objects at the path for a namespace; none where that fails."""
    root = context.find_root()
    world = root.obj if isinstance(root.obj, World) else World()
    try:
        cluster = world.connect(_target(context))
        listing = cluster.get(path(cluster.namespace), limit=_LISTED)
    except Failure:
        return []
    return [item["metadata"]["name"] for item in listing["items"]]


def _target(context: typer.Context) -> Target:
    said: dict[str, str | None] = {}
    for one in (context.find_root(), context):
        said.update({key: text for key, text in one.params.items() if text is not None})
    return Target(said.get("namespace"), False, said.get("kube_context"), said.get("kubeconfig"))
