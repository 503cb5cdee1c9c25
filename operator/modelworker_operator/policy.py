"""What the operator's settings make of an object: what it leaves open and may not ask for. Pure."""

from modelworker_operator.config import Config
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.spec import AuthMode, HuggingFaceSource, Source, WorkerSpec


def check_allowed(spec: WorkerSpec, config: Config) -> None:
    """Check a spec against what the administrator forbids.

    Raises:
        InvalidSpec: it asks for what is forbidden; the message says what to set instead.
    """
    if config.worker_auth_required and spec.auth is AuthMode.NONE:
        raise InvalidSpec(
            "spec.auth.mode is None, which this cluster's operator does not allow "
            "(--worker-auth-required); set it to Token, or remove spec.auth"
        )


def takes_tokens(spec: WorkerSpec, config: Config) -> bool:
    """Whether callers of the workers have to show a token."""
    if spec.auth is None:
        return config.worker_auth == "token"
    return spec.auth is AuthMode.TOKEN


def callers(namespace: str, config: Config) -> tuple[str, ...]:
    """The namespaces whose service accounts may call the workers of `namespace`."""
    if "*" in config.worker_auth_namespaces:
        return ("*",)
    return tuple(sorted({namespace, *config.worker_auth_namespaces}))


def runs_model_code(spec: WorkerSpec, config: Config) -> bool:
    """Whether the workers may run the code of their repositories: all of it is on the list.

    A repository of a mirror is not the one that the administrator looked at, whatever the
    mirror calls it.
    """
    return all(_is_trusted(source, config) for source in spec.sources)


def _is_trusted(source: Source, config: Config) -> bool:
    return (
        isinstance(source, HuggingFaceSource)
        and source.endpoint is None
        and f"{source.repo}@{source.revision}" in config.trusted_repositories
    )
