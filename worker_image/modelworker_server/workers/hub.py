"""Fetching a model from the Hugging Face hub into its cache."""

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from modelworker_api.wire import FailureReason
from modelworker_server.errors import DENIED, LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.files import CODE, IGNORED, PATTERNS, check_files
from modelworker_server.workers.runner import one_line

_log = logging.getLogger(__name__)


Check = Callable[[Collection[str], str], None]
"""Raises `LoadError` unless the files of that name make up what is to be loaded."""


def fetch(
    config: ModelConfig,
    report: Callable[[int], None],
    *,
    cache_dir: Path | None = None,
    check: Check | None = None,
) -> tuple[Path, str]:
    """Download what is missing of a model.

    Args:
        config: the repository, revision, file, token and endpoint.
        report: called with the percent of the bytes that are here.
        cache_dir: where to; `HF_HOME`'s cache if None. A complete copy there is used when the
            hub cannot be reached.
        check: Looks at the repository's files; that they are a model if None.

    Returns:
        The folder and the commit.

    Raises:
        LoadError: ModelNotFound, ModelUnauthorized, ModelUnsupported or DownloadFailed.
    """
    try:
        return _fetch(config, report, cache_dir, check or _model_of(config))
    except LoadError:
        raise
    except Exception as error:
        raise _failure(config, error) from error


def _model_of(config: ModelConfig) -> Check:
    return lambda names, where: check_files(names, config.gguf_file, where)


def _fetch(
    config: ModelConfig, report: Callable[[int], None], cache_dir: Path | None, check: Check
) -> tuple[Path, str]:
    # False, not None: without a token of ours none that lies around is sent.
    access: dict[str, Any] = {"token": config.token or False, "endpoint": config.endpoint}
    what: dict[str, Any] = {
        "repo_id": config.model,
        "revision": config.revision,
        "cache_dir": cache_dir,
        "allow_patterns": _wanted(config),
        "ignore_patterns": None if config.gguf_file else list(IGNORED),
        **access,
    }
    total = 0
    try:
        names = HfApi(**access).list_repo_files(config.model, revision=config.revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except Exception as error:
        # What it is depends on the hub client's HTTP library. Below, a complete copy in the
        # cache is used or an error raised.
        _log.warning("cannot list the files of %s: %s", config.model, one_line(error))
    else:
        check(names, f"repository {config.model}")
        files = snapshot_download(**what, dry_run=True, tqdm_class=_counter(0, report))
        total = sum(file.file_size or 0 for file in files if file.will_download)
    folder = Path(snapshot_download(**what, tqdm_class=_counter(total, report)))
    return folder, folder.name


def _wanted(config: ModelConfig) -> list[str]:
    if config.gguf_file:
        return [config.gguf_file]
    return [*PATTERNS, *(CODE if config.trust_remote_code else ())]


def _counter(total: int, report: Callable[[int], None]) -> "type[tqdm[Any]]":
    """A progress bar that prints nothing and reports the percent of `total` bytes."""
    reported = -1

    class Counter(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = total > 0 and kwargs.get("unit") == "B"
            self._bytes = 0
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal reported
            if self._counts:
                self._bytes += int(n or 0)
                percent = min(100, self._bytes * 100 // total)
                if percent > reported:
                    reported = percent
                    report(percent)
            return None

    return Counter


def _failure(config: ModelConfig, error: BaseException) -> LoadError:
    where = f"{config.model} at {config.revision or 'its default branch'}"
    hub = config.endpoint or "the hub"
    for cause in _chain(error):
        if isinstance(cause, HFValidationError):
            return LoadError(
                FailureReason.MODEL_NOT_FOUND,
                f"{config.model!r} is no name of a repository ({cause}); it must be OWNER/NAME",
            )
        if isinstance(cause, RevisionNotFoundError):
            return LoadError(
                FailureReason.MODEL_NOT_FOUND,
                f"no revision {config.revision!r} in {config.model}; name one of its commits, "
                "tags or branches in revision",
            )
        if isinstance(cause, GatedRepoError):
            return _denied(config, f"{where} is gated")
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code in DENIED:
            return _denied(config, f"{where} is private, or there is no such repository")
        if isinstance(cause, RepositoryNotFoundError):
            return LoadError(
                FailureReason.MODEL_NOT_FOUND,
                f"no repository {config.model} on {hub}; check repo, or set tokenSecretRef if "
                "it is private",
            )
    return LoadError(
        FailureReason.DOWNLOAD_FAILED,
        f"cannot download {where} from {hub}: {one_line(_chain(error)[-1])}; check the network "
        "and the space of the cache volume, the worker tries again when it restarts",
    )


def _denied(config: ModelConfig, what: str) -> LoadError:
    how = (
        "the token of spec.model.source.huggingFace.tokenSecretRef has no access to it"
        if config.token
        else "set spec.model.source.huggingFace.tokenSecretRef to a Secret with a token that "
        "has access"
    )
    return LoadError(FailureReason.MODEL_UNAUTHORIZED, f"{what}; {how}")


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    return chain
