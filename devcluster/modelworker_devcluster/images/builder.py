"""The build itself: finds an engine and a base, and runs the engine."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from modelworker_devcluster import debian, settings
from modelworker_devcluster.errors import DevClusterError, SourceFailed
from modelworker_devcluster.gobuild import run_command
from modelworker_devcluster.images import base, packages
from modelworker_devcluster.images.engines import ENGINES, Command, Docker, Plan
from modelworker_devcluster.images.options import (
    AUTO,
    Built,
    Component,
    ImagesFailed,
    Options,
    Variant,
    project_version,
)

Progress = Callable[[str], None]
Run = base.Run

_STEP = re.compile(r"(\[\d+/\d+\] )?STEP \d+/\d+: (RUN|COPY) .*|#\d+ \[.*\d+/\d+\] (RUN|COPY) .*")
_LONGEST = 100


def build(options: Options, say: Progress) -> Built:
    """Build the images; layers that did not change come from the engine's cache.

    Args:
        options: what to build.
        say: is told each step in a few words.

    Raises:
        ImagesFailed: there is no engine or no base, or a build fails.
        PackagesMissing: a Debian package is missing and cannot be installed.
    """
    cache = settings.cache_folder().parent / "images"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "lock", say):
        engine = choose_engine(options.engine, run, say)
        dockerfiles = {one: one.dockerfile.read_text() for one in options.components}
        reference = base.find(
            options.base,
            base.pinned(next(iter(dockerfiles.values()))),
            engine,
            cache,
            run=run,
            say=say,
        )
        version = project_version()
        built = Built(
            references={one: options.reference(one, version) for one in options.components},
            archives={},
            engine=engine.name,
            base=reference,
        )
        with tempfile.TemporaryDirectory() as temporary:
            secrets = secret_files(Path(temporary), settings.environment({}))
            for component in options.components:
                plan = plan_for(
                    component,
                    options,
                    base_image=reference,
                    version=version,
                    revision=_revision(),
                    secrets=secrets,
                    wheels=packages.torch_wheels(settings.environment({})),
                )
                _build(engine, plan, cache / f"{component}.log", say)
        if options.archives is not None:
            for component, name in built.references.items():
                built.archives[component] = _save(engine, name, options.archives, say)
    return built


def plan_for(
    component: Component,
    options: Options,
    *,
    base_image: str,
    version: str,
    revision: str,
    secrets: dict[str, Path],
    wheels: Path | None,
) -> Plan:
    """The build of one image.

    Args:
        component: what runs in it.
        options: what was asked for.
        base_image: what to build on.
        version: the project's.
        revision: the commit.
        secrets: a file for each secret.
        wheels: a folder with a wheel of torch, if any.
    """
    torch = component is Component.WORKER and options.variant is Variant.CPU
    return Plan(
        reference=options.reference(component, version),
        dockerfile=component.dockerfile,
        context=settings.CHECKOUT,
        arguments={
            "BASE_IMAGE": base_image,
            "VERSION": version,
            "REVISION": revision,
            **options.arguments(component),
        },
        secrets=secrets,
        contexts={"wheels": wheels} if torch and wheels else {},
    )


def choose_engine(
    wanted: str,
    run: Run,
    say: Progress,
    *,
    can_install: Callable[[], bool] = debian.can_install,
) -> Docker:
    """The engine to build with.

    Args:
        wanted: its name, or `auto` for the first that works; as root on Debian and its like
            buildah is installed if there is none.
        run: how commands are run.
        say: is told each step in a few words.
        can_install: says if packages can be installed here.

    Raises:
        ImagesFailed: none works.
    """
    engines = [engine for engine in ENGINES if wanted in (AUTO, engine.name)]
    failures = []
    for engine in engines:
        try:
            _finish(run, engine.probe)
        except DevClusterError as error:
            failures.append(f"  {engine.name}: {str(error).splitlines()[-1]}")
        else:
            return engine
    if wanted == AUTO and can_install():
        debian.ensure_packages(["buildah"], say)
        return choose_engine("buildah", run, say)
    raise ImagesFailed(
        "no container engine works here:\n" + "\n".join(failures) + "\n"
        "Start Docker, or install podman or buildah (`sudo apt-get install buildah`)"
    )


def secret_files(folder: Path, environment: dict[str, str]) -> dict[str, Path]:
    """Write what a build may know of this machine and no layer may keep.

    Args:
        folder: where, for this user alone.
        environment: this machine's.
    """
    found: dict[str, Path] = {}
    if bundle := packages.certificates(environment):
        found["ca"] = bundle
    if lines := packages.index_lines(environment):
        file = folder / "environment"
        file.touch(mode=0o600)
        file.write_text(lines)
        found["environment"] = file
    return found


def step_of(line: str) -> str | None:
    """What a line of an engine's output says to a waiting user, None for nothing."""
    if not _STEP.fullmatch(line):
        return None
    text = " ".join(line.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def run(command: Sequence[str]) -> Iterator[str]:
    """Run a command in the checkout, and give the lines of its output.

    Raises:
        SourceFailed: it ends badly.
    """
    environment = settings.environment(Docker.environment)
    return run_command(command, settings.CHECKOUT, environment)


@contextmanager
def _alone(file: Path, say: Progress) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another build runs (it holds {file}): waiting for its end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(engine: Docker, plan: Plan, log: Path, say: Progress) -> None:
    began = time.monotonic()
    say(f"{plan.reference}: building with {engine.name}")
    try:
        with log.open("w") as file:
            for line in run(engine.build(plan)):
                file.write(f"{line}\n")
                if step := step_of(line):
                    say(f"  {step}")
    except SourceFailed as error:
        raise ImagesFailed(
            f"{plan.reference} cannot be built: {error}\nThe whole output is in {log}"
        ) from error
    say(f"{plan.reference}: built in {time.monotonic() - began:.0f} s")


def _save(engine: Docker, reference: str, folder: Path, say: Progress) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = reference.rpartition("/")[2].replace(":", "-")
    archive, part = folder / f"{name}.tar", folder / f"{name}.part"
    part.unlink(missing_ok=True)  # of a process that was killed
    say(f"{reference}: writing {archive}")
    _finish(run, engine.save(reference, part))
    part.rename(archive)
    return archive


def _revision() -> str:
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return next(iter(list(run(command))), "unknown")
    except SourceFailed:
        return "unknown"  # no checkout, but an archive of one


def _finish(run: Run, command: Command) -> None:
    for _ in run(command):
        pass
