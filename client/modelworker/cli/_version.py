"""`kubectl modelworker version`: of this command, the API server and the operator."""

from importlib.metadata import version as installed
from typing import Any

import typer

from modelworker.cli._cluster import Target
from modelworker.cli._failures import Code, Failure
from modelworker.cli._operator import operator_pods
from modelworker.cli._output import compact, emit
from modelworker.cli._world import World


def version(world: World, target: Target, *, client: bool, output: str | None) -> Code:
    """Print the versions; what cannot be asked is left out and said on stderr."""
    found: dict[str, Any] = {"client": installed("modelworker")}
    code = Code.OK
    if not client:
        try:
            cluster = world.connect(target)
            found["kubernetes"] = cluster.get("/version").get("gitVersion")
        except Failure as error:
            world.say(f"error: {error}")
            code = error.code
        else:
            try:
                pods = operator_pods(cluster)
                found["operator"] = sorted({_image(pod) for pod in pods})
            except Failure as error:
                world.say(f"the operator's version is not known: {error}")
    if output is not None:
        emit(compact(found), output)
    else:
        for name, value in compact(found).items():
            words = ", ".join(value) if isinstance(value, list) else value
            typer.echo(f"{name}: {words}")
    return code


def _image(pod: Any) -> str:
    image: str = pod["spec"]["containers"][0]["image"]
    return image
