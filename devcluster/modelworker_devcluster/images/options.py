"""What is to be built, and what came of it."""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from modelworker_devcluster import settings
from modelworker_devcluster.errors import DevClusterError

AUTO = "auto"
"""The engine or base that is found to work."""

_REPOSITORY = "docker.io/modelworker"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class ImagesFailed(DevClusterError):
    """An image could not be built; the message says the next step."""


class Component(StrEnum):
    """What runs in an image."""

    OPERATOR = "operator"
    WORKER = "worker"

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile in this checkout."""
        folder = "worker_image" if self is Component.WORKER else "operator"
        return settings.CHECKOUT / folder / "Dockerfile"


class Backend(StrEnum):
    """What runs the model in a worker."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


class Variant(StrEnum):
    """The hardware that a worker is built for."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Options:
    """What to build.

    Attributes:
        components: the images.
        backend: of the worker.
        variant: of the worker.
        tag: of every image; None for the project's version, with the worker's backend and
            variant behind it where they are not transformers and cpu.
        engine: `docker`, `podman`, `buildah`, or `auto`.
        base: the image to build on, or `auto` for the pinned one, else a bootstrapped one.
        archives: the folder for an archive of each image, None for none.
    """

    components: tuple[Component, ...] = tuple(Component)
    backend: Backend = Backend.TRANSFORMERS
    variant: Variant = Variant.CPU
    tag: str | None = None
    engine: str = AUTO
    base: str = AUTO
    archives: Path | None = None

    def __post_init__(self) -> None:
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise ImagesFailed(
                f"{self.tag!r} is no tag: letters, digits, `_`, `.` and `-`, at most 128, "
                "the first of them no `.` or `-`"
            )

    def reference(self, component: Component, version: str) -> str:
        """The full name of an image.

        Args:
            component: what runs in it.
            version: the project's.
        """
        return f"{_REPOSITORY}/{component}:{self.tag or version + self._suffix(component)}"

    def arguments(self, component: Component) -> dict[str, str]:
        """The build arguments that choose between kinds of an image."""
        if component is Component.OPERATOR:
            return {}
        return {"BACKEND": self.backend, "VARIANT": self.variant}

    def _suffix(self, component: Component) -> str:
        if component is Component.OPERATOR:
            return ""
        backend = "" if self.backend is Backend.TRANSFORMERS else f"-{self.backend}"
        return backend + ("" if self.variant is Variant.CPU else f"-{self.variant}")


@dataclass(frozen=True, slots=True)
class Built:
    """What was built.

    Attributes:
        references: the full name of each image, such as `docker.io/modelworker/worker:0.1.0`.
        archives: the archive of each image, for `ctr images import`; empty if none was wanted.
        engine: the engine that has them.
        base: the image that they were built on.
    """

    references: dict[Component, str]
    archives: dict[Component, Path]
    engine: str
    base: str


def project_version() -> str:
    """The version of this checkout, from pyproject.toml."""
    project = tomllib.loads((settings.CHECKOUT / "pyproject.toml").read_text())
    return str(project["project"]["version"])
