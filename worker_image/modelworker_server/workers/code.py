"""Code that a model's repository brings along: when it may run, and what is said if it may not."""

import json
from pathlib import Path
from typing import Any, Final

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig

_MAPS: Final = ("config.json", "tokenizer_config.json")
"""Files whose `auto_map` names the classes of such code."""
_OTHER_REPOSITORY: Final = "--"
"""In the name of a class: what stands before it is another repository."""
ANY_COMMIT: Final = "OWNER/NAME@COMMIT"


def brings_code(folder: Path) -> bool:
    """Whether a folder's files name code that it is to be loaded with."""
    return any(_classes(folder))


def require_own(folder: Path) -> None:
    """Check, before it runs, that the code is what was allowed: that of this commit.

    Raises:
        LoadError: ModelUnsupported for code of another repository.
    """
    for name in _classes(folder):
        if _OTHER_REPOSITORY in name:
            raise LoadError(
                FailureReason.MODEL_UNSUPPORTED,
                f"the model asks for code of another repository ({name:.200}), which was not "
                "allowed with it; copy that code into the model's own repository",
            )


def not_run(what: str = ANY_COMMIT) -> LoadError:
    """The `LoadError` of a model that cannot be loaded without such code.

    Args:
        what: the repository and the commit that an administrator would have to allow.
    """
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        "the model needs code of its repository, which is not run here; use a model that the "
        "engine knows, or have an administrator look at the code and allow it with the "
        f"operator's --trusted-repositories {what}",
    )


def commit_of(config: ModelConfig, folder: Path) -> str:
    """The repository and commit of a downloaded model, as `not_run` takes them."""
    return f"{config.model}@{folder.name}" if config.source == "huggingFace" else ANY_COMMIT


def _classes(folder: Path) -> list[str]:
    """Every class of such code, as the files name it."""
    names: list[str] = []
    for file in _MAPS:
        found = _auto_map(folder / file)
        for value in found.values() if isinstance(found, dict) else [found]:
            names += [str(one) for one in (value if isinstance(value, list) else [value]) if one]
    return names


def _auto_map(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # told by whoever loads it
        return None
    return content.get("auto_map") if isinstance(content, dict) else None
