"""The command lines of docker, podman and buildah, as values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One build.

    Attributes:
        reference: the name of the image.
        dockerfile: what to do.
        context: the folder that the Dockerfile copies from.
        arguments: build arguments.
        secrets: a file for each secret.
        contexts: a folder for each further context.
    """

    reference: str
    dockerfile: Path
    context: Path
    arguments: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Path] = field(default_factory=dict)
    contexts: dict[str, Path] = field(default_factory=dict)

    @property
    def flags(self) -> Command:
        """The flags that every engine understands, and the context."""
        result = ["--file", str(self.dockerfile), "--tag", self.reference]
        for key, value in self.arguments.items():
            result += ["--build-arg", f"{key}={value}"]
        for name, file in self.secrets.items():
            result += ["--secret", f"id={name},src={file}"]
        for name, folder in self.contexts.items():
            result += ["--build-context", f"{name}={folder}"]
        return (*result, str(self.context))


class Docker:
    """Docker, with BuildKit."""

    name = "docker"
    environment: Final = {"DOCKER_BUILDKIT": "1"}

    @property
    def probe(self) -> Command:
        """Ends well where the engine works: for docker, where its daemon answers."""
        return (self.name, "version", "--format", "{{.Server.Version}}")

    def has(self, reference: str) -> Command:
        """Ends well where the engine has an image."""
        return (self.name, "image", "inspect", "--format", "{{.Id}}", reference)

    def pull(self, reference: str) -> Command:
        """Fetch an image from its registry."""
        return (self.name, "pull", reference)

    def load(self, root: Path, reference: str) -> tuple[Command, ...]:
        """Make an image of one layer from a tar file of a root file system."""
        return ((self.name, "import", str(root), reference),)

    def build(self, plan: Plan) -> Command:
        """Build an image."""
        return (self.name, "build", "--progress=plain", *plan.flags)

    def save(self, reference: str, archive: Path) -> Command:
        """Write an image to an archive that does not exist."""
        return (self.name, "save", "--output", str(archive), reference)


class Podman(Docker):
    """Podman."""

    name = "podman"

    @property
    def probe(self) -> Command:
        """Ends well where the engine works."""
        return (self.name, "info")

    def build(self, plan: Plan) -> Command:
        """Build an image, its layers cached."""
        return (self.name, "build", "--layers", *plan.flags)


class Buildah(Docker):
    """Buildah."""

    name = "buildah"

    @property
    def probe(self) -> Command:
        """Ends well where the engine works."""
        return (self.name, "info")

    def has(self, reference: str) -> Command:
        """Ends well where the engine has an image."""
        return (self.name, "inspect", "--type=image", "--format", "{{.FromImageID}}", reference)

    def load(self, root: Path, reference: str) -> tuple[Command, ...]:
        """Make an image of one layer from a tar file of a root file system."""
        container = "modelworker-base"
        return (
            (self.name, "from", "--name", container, "scratch"),
            (self.name, "add", container, str(root), "/"),
            (self.name, "commit", "--rm", container, reference),
        )

    def build(self, plan: Plan) -> Command:
        """Build an image, its layers cached, with what a container may do too."""
        # chroot needs no runtime, no cgroup and no network set-up of its own. By default a
        # build that fails leaves its containers.
        how = ("--isolation=chroot", "--network=host", "--layers", "--force-rm")
        return (self.name, "build", *how, *plan.flags)

    def save(self, reference: str, archive: Path) -> Command:
        """Write an image to an archive that does not exist."""
        return (self.name, "push", reference, f"docker-archive:{archive}:{reference}")


ENGINES: Final[tuple[Docker, ...]] = (Docker(), Podman(), Buildah())
"""In the order in which they are tried."""
