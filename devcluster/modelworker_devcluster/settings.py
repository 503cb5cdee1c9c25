"""The only reader of the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

BINARIES_VARIABLE = "MODELWORKER_KUBE_BINARIES"

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent.parent


def binaries_folder() -> Path | None:
    """The folder of Kubernetes binaries that the user names, if any."""
    value = os.environ.get(BINARIES_VARIABLE)
    return Path(value).expanduser().absolute() if value else None


def cache_folder() -> Path:
    """Where binaries are kept between runs: `$XDG_CACHE_HOME/modelworker/kube`."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "modelworker" / "kube"


def state_folder() -> Path:
    """Where named clusters live: `$XDG_STATE_HOME/modelworker/devcluster`."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "modelworker" / "devcluster"


def shell() -> str:
    """The shell that the user prefers."""
    return os.environ.get("SHELL") or "/bin/sh"


def environment(added: Mapping[str, str], *, path: Path | None = None) -> dict[str, str]:
    """The environment for a child process.

    Args:
        added: variables to set.
        path: folder to put first on PATH.
    """
    result = {**os.environ, **added}
    if path is not None:
        result["PATH"] = os.pathsep.join(filter(None, (str(path), os.environ.get("PATH"))))
    return result


def package_environment(added: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process that imports this package.

    Args:
        added: variables to set.
    """
    paths = (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))
    return environment({**added, "PYTHONPATH": os.pathsep.join(filter(None, paths))})


def _xdg(variable: str, default: str) -> Path:
    # The XDG rule: a relative path in the variable is to be ignored.
    value = Path(os.environ.get(variable, ""))
    return value if value.is_absolute() else Path.home() / default
