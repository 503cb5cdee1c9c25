"""What the Dockerfiles promise: pinned, numeric user, nothing fetched by ADD, nothing recorded."""

import re
import tomllib
from pathlib import Path

import pytest

from modelworker_api import kube
from modelworker_devcluster import settings
from modelworker_devcluster.images.base import pinned
from modelworker_devcluster.images.options import Component, ImagesFailed

_PINNED = re.compile(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}")
_NEEDED = ("org.opencontainers.image.title", "org.opencontainers.image.description")
_BUILDERS = ("curl", "git", "make", "cmake")

both = pytest.mark.parametrize("component", list(Component), ids=str)


def instructions(component: Component) -> list[tuple[str, str]]:
    """Each instruction and its text, comments and line breaks taken out."""
    lines = [
        line
        for line in component.dockerfile.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(words[0].upper(), " ".join(words[1:])) for line in logical if (words := line.split())]


def stages(component: Component) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[tuple[str, str]]] = []
    for name, text in instructions(component):
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, text))
    return found


def texts(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [text for instruction, text in stage if instruction == name]


@both
def test_the_base_is_pinned_by_tag_and_digest(component: Component) -> None:
    assert _PINNED.fullmatch(pinned(component.dockerfile.read_text()))


def test_both_are_built_on_the_same_base() -> None:
    assert len({pinned(component.dockerfile.read_text()) for component in Component}) == 1


def test_a_dockerfile_without_a_base_is_refused() -> None:
    with pytest.raises(ImagesFailed, match="ARG BASE_IMAGE"):
        pinned("FROM debian\nARG BASE_IMAGE\n")


@both
def test_every_stage_is_built_on_the_base_or_on_another_stage(component: Component) -> None:
    known = {"${BASE_IMAGE}", "scratch"}
    for stage in stages(component):
        image, *alias = stage[0][1].split(" AS ")
        assert image in known
        known.update(alias)


@both
def test_the_last_stage_runs_as_a_numeric_user_that_is_not_root(component: Component) -> None:
    assert texts(stages(component)[-1], "USER") == ["65532:65532"]


@both
def test_nothing_is_fetched_by_add_and_nothing_is_latest(component: Component) -> None:
    assert "ADD" not in {name for name, _ in instructions(component)}
    assert ":latest" not in component.dockerfile.read_text()


@both
def test_secrets_are_mounted_and_never_arguments(component: Component) -> None:
    found = instructions(component)
    names = {text.split("=")[0] for name, text in found if name == "ARG"}
    assert names <= {"BASE_IMAGE", "VERSION", "REVISION", "BACKEND", "VARIANT"}
    fetching = [text for name, text in found if name == "RUN" and "--no-cache-dir" in text]
    assert len(fetching) == 3  # what builds the wheel, the wheel itself, what we depend on
    for text in fetching:
        mounted = "--mount=type=secret,id=ca --mount=type=secret,id=environment" in text
        assert mounted == ("--no-index --no-deps --no-compile" not in text)


@both
def test_tools_are_pinned_exactly_and_stay_in_no_layer(component: Component) -> None:
    runs = " ".join(text for name, text in instructions(component) if name == "RUN")
    assert re.search(r" hatchling==\d+\.\d+\.\d+[ ;]?", runs)
    assert re.search(r" uv==\d+\.\d+\.\d+[ ;]", runs)
    dependencies = texts(stages(component)[-1], "RUN")[-1]
    assert "python3 -m venv /tmp/tools;" in dependencies
    assert dependencies.endswith("rm -r /tmp/tools .lock")


@both
def test_our_code_comes_after_what_it_depends_on(component: Component) -> None:
    last = [(name, text) for name, text in stages(component)[-1] if name in {"COPY", "RUN"}]
    assert [text for name, text in last if name == "COPY"] == [
        "pyproject.toml /opt/venv/",
        "--from=project /opt/modelworker /opt/modelworker",
    ]
    assert last[-1][0] == "COPY"


@both
def test_the_last_stage_has_no_tools_that_build(component: Component) -> None:
    runs = " ".join(texts(stages(component)[-1], "RUN")).split()
    assert not set(runs) & set(_BUILDERS)
    compilers = {"gcc", "g++"} & set(runs)
    assert not compilers or component is Component.WORKER


@both
def test_the_labels_are_those_of_the_oci(component: Component) -> None:
    label = texts(stages(component)[-1], "LABEL")[0]
    project = tomllib.loads((settings.CHECKOUT / "pyproject.toml").read_text())["project"]
    assert all(f"{key}=" in label for key in _NEEDED)
    assert 'org.opencontainers.image.version="${VERSION}"' in label
    assert 'org.opencontainers.image.revision="${REVISION}"' in label
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in label


@pytest.mark.parametrize(
    ("component", "module", "ports"),
    [
        pytest.param(
            Component.OPERATOR,
            "modelworker_operator",
            (kube.HEARTBEAT_PORT, kube.HEALTH_PORT),
            id="operator",
        ),
        pytest.param(Component.WORKER, "modelworker_server", (kube.WORKER_PORT,), id="worker"),
    ],
)
def test_what_starts_and_where_it_listens(
    component: Component, module: str, ports: tuple[int, ...]
) -> None:
    last = stages(component)[-1]
    assert texts(last, "ENTRYPOINT") == [f'["python", "-m", "{module}"]']
    assert texts(last, "EXPOSE") == [" ".join(map(str, ports))]
    assert texts(last, "STOPSIGNAL") == ["SIGTERM"]


@both
def test_a_read_only_root_is_enough(component: Component) -> None:
    environment = texts(stages(component)[-1], "ENV")[0]
    assert "HOME=/tmp" in environment
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    runs = " ".join(text for name, text in instructions(component) if name == "RUN")
    assert "UV_COMPILE_BYTECODE=1" in runs
    assert "python3 -m compileall -q --invalidation-mode unchecked-hash /opt/modelworker" in runs


@both
def test_a_wrong_version_is_refused_with_the_right_one(component: Component) -> None:
    project = next(one for one in stages(component) if one[0][1].endswith(" AS project"))
    assert "--build-arg VERSION=$is" in texts(project, "RUN")[1]


def test_the_context_is_what_the_wheel_is_built_from() -> None:
    lines = (settings.CHECKOUT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((settings.CHECKOUT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    named = {project["project"]["readme"], *project["project"]["license-files"], *packages}
    assert patterns[0] == "*"
    assert {line[1:] for line in patterns if line[0] == "!"} == {"pyproject.toml", *named}
    assert all((settings.CHECKOUT / Path(one)).exists() for one in named)
