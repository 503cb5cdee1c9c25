"""Which files make up a model, and a fingerprint of them where there is no commit."""

import hashlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError

_CONFIG: Final = "config.json"
_ADAPTER_CONFIG: Final = "adapter_config.json"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt"})
_SHOWN: Final = 12
_EDGE: Final = 1 << 20

PATTERNS: Final = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "reward_head.pt")
"""Files of a repository that are read, if they are not in `IGNORED`. The one pickle is a reward
model's head, of which tensors alone are taken."""
CODE: Final = ("*.py",)
"""Files of a repository whose code may run."""
IGNORED: Final = ("*/*", "consolidated*")
"""Folders with other formats, and weights that are there twice."""


def check_files(names: Collection[str], gguf_file: str | None, where: str) -> None:
    """Check that a folder or repository holds a model that can be loaded.

    Raises:
        LoadError: ModelNotFound, or ModelUnsupported for pickled weights, with what is there.
    """
    top = sorted(name for name in names if "/" not in name)
    suffixes = {PurePosixPath(name).suffix for name in top}
    if gguf_file is not None:
        if gguf_file not in names:
            raise _not_found(
                f"no file {gguf_file} in {where}", [n for n in names if _gguf(n)] or top
            )
        return
    if _CONFIG not in names:
        hint = "; name one of its GGUF files in ggufFile" if ".gguf" in suffixes else ""
        raise _not_found(f"no {_CONFIG} in {where}", top, hint)
    if ".safetensors" in suffixes:
        return
    if suffixes & _PICKLES:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"{where} has its weights as pickle files only, which can run any code when they "
            "are opened; save the model as safetensors (model.save_pretrained does)",
        )
    raise _not_found(f"no *.safetensors in {where}", top)


def check_adapter(names: Collection[str], where: str) -> None:
    """Check that a folder or repository holds a LoRA adapter that can be loaded.

    Raises:
        LoadError: ModelNotFound, or ModelUnsupported for pickled weights.
    """
    if _ADAPTER_CONFIG not in names:
        raise _not_found(f"no {_ADAPTER_CONFIG} in {where}", sorted(names))
    if _ADAPTER_WEIGHTS in names:
        return
    if any(PurePosixPath(name).suffix in _PICKLES for name in names):
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"{where} has its weights as a pickle file, which can run any code when it is "
            "opened; save the adapter as safetensors (peft's save_pretrained does)",
        )
    raise _not_found(f"no {_ADAPTER_WEIGHTS} in {where}", sorted(names))


def locate(model: str, gguf_file: str | None) -> Path:
    """The folder of a local model, checked.

    Raises:
        LoadError: as `check_files`, also when the folder is missing.
    """
    folder = Path(model)
    if not folder.is_dir():
        parent = next(p for p in folder.absolute().parents if p.is_dir())
        raise _not_found(f"no folder {model}", sorted(p.name for p in parent.iterdir()), at=parent)
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if gguf_file is not None and (folder / gguf_file).is_file():
        names.add(gguf_file)
    check_files(names, gguf_file, str(folder))
    return folder


def fingerprint(folder: Path, gguf_file: str | None) -> str:
    """`sha256:` and 12 hex digits that tell two versions of a local model apart.

    They cover the names and sizes of the files, the content of the small ones (such as
    config.json), and the first and last MiB of the large ones: not every weight, so that a
    big model is not read twice.
    """
    if gguf_file is not None:
        paths = [folder / gguf_file]
    else:
        paths = sorted(p for pattern in PATTERNS for p in folder.glob(pattern) if p.is_file())
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            if size > _EDGE:
                file.seek(max(_EDGE, size - _EDGE))
                digest.update(file.read())
    return f"sha256:{digest.hexdigest()[:12]}"


def _gguf(name: str) -> bool:
    return name.endswith(".gguf")


def _not_found(what: str, present: list[str], hint: str = "", at: Path | None = None) -> LoadError:
    shown = ", ".join(present[:_SHOWN]) or "nothing"
    more = f" and {len(present) - _SHOWN} more" if len(present) > _SHOWN else ""
    place = f"{at} holds" if at else "it holds"
    return LoadError(FailureReason.MODEL_NOT_FOUND, f"{what}; {place}: {shown}{more}{hint}")
