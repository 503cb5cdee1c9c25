"""What is run to build the images: command lines and secrets as values."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelworker_devcluster.errors import SourceFailed
from modelworker_devcluster.images import base, packages
from modelworker_devcluster.images.builder import choose_engine, plan_for, secret_files, step_of
from modelworker_devcluster.images.engines import ENGINES, Buildah, Docker, Plan, Podman
from modelworker_devcluster.images.options import (
    Backend,
    Component,
    ImagesFailed,
    Options,
    Variant,
)

PINNED = "docker.io/library/python:3.12.14-slim-bookworm@sha256:" + "a" * 64
PLAN = Plan(
    reference="docker.io/modelworker/worker:1.0",
    dockerfile=Path("/src/worker_image/Dockerfile"),
    context=Path("/src"),
    arguments={"VERSION": "1.0", "BACKEND": "vllm"},
    secrets={"ca": Path("/etc/ca.crt")},
    contexts={"wheels": Path("/wheels")},
)
FLAGS = (
    "--file",
    "/src/worker_image/Dockerfile",
    "--tag",
    "docker.io/modelworker/worker:1.0",
    "--build-arg",
    "VERSION=1.0",
    "--build-arg",
    "BACKEND=vllm",
    "--secret",
    "id=ca,src=/etc/ca.crt",
    "--build-context",
    "wheels=/wheels",
    "/src",
)


class Commands:
    """Runs nothing: fails what `fails` names, and keeps what it was asked for."""

    def __init__(self, fails: Callable[[str], bool] = lambda _: False) -> None:
        self.ran: list[str] = []
        self._fails = fails

    def __call__(self, command: Sequence[str]) -> Iterator[str]:
        line = " ".join(command)
        self.ran.append(line)
        if self._fails(line):
            raise SourceFailed(f"`{line}` ended with exit code 1:\nno such host")
        yield "done"


def quiet(_: str) -> None:
    """Says nothing."""


@pytest.mark.parametrize(
    ("engine", "before"),
    [
        pytest.param(Docker(), ("docker", "build", "--progress=plain"), id="docker"),
        pytest.param(Podman(), ("podman", "build", "--layers"), id="podman"),
        pytest.param(
            Buildah(),
            ("buildah", "build", "--isolation=chroot", "--network=host", "--layers", "--force-rm"),
            id="buildah",
        ),
    ],
)
def test_build_command(engine: Docker, before: tuple[str, ...]) -> None:
    assert engine.build(PLAN) == (*before, *FLAGS)


@pytest.mark.parametrize(
    ("engine", "saved", "loaded"),
    [
        pytest.param(
            Docker(),
            "docker save --output /out/w.tar r:1",
            ["docker import /root.tar b:1"],
            id="docker",
        ),
        pytest.param(
            Podman(),
            "podman save --output /out/w.tar r:1",
            ["podman import /root.tar b:1"],
            id="podman",
        ),
        pytest.param(
            Buildah(),
            "buildah push r:1 docker-archive:/out/w.tar:r:1",
            [
                "buildah from --name modelworker-base scratch",
                "buildah add modelworker-base /root.tar /",
                "buildah commit --rm modelworker-base b:1",
            ],
            id="buildah",
        ),
    ],
)
def test_save_and_load(engine: Docker, saved: str, loaded: list[str]) -> None:
    assert " ".join(engine.save("r:1", Path("/out/w.tar"))) == saved
    assert [" ".join(one) for one in engine.load(Path("/root.tar"), "b:1")] == loaded


@pytest.mark.parametrize(
    ("options", "operator", "worker"),
    [
        pytest.param({}, "0.1.0", "0.1.0", id="default"),
        pytest.param({"variant": Variant.CUDA}, "0.1.0", "0.1.0-cuda", id="cuda"),
        pytest.param({"backend": Backend.VLLM}, "0.1.0", "0.1.0-vllm", id="vllm"),
        pytest.param(
            {"backend": Backend.VLLM, "variant": Variant.CUDA},
            "0.1.0",
            "0.1.0-vllm-cuda",
            id="vllm-cuda",
        ),
        pytest.param({"backend": Backend.VLLM, "tag": "e2e"}, "e2e", "e2e", id="own-tag"),
    ],
)
def test_names(options: dict[str, Any], operator: str, worker: str) -> None:
    found = Options(**options)
    assert found.reference(Component.OPERATOR, "0.1.0") == (
        f"docker.io/modelworker/operator:{operator}"
    )
    assert found.reference(Component.WORKER, "0.1.0") == f"docker.io/modelworker/worker:{worker}"


@pytest.mark.parametrize("tag", ["", "a b", "-a", ".a", "a/b", "a:b", "a" * 129])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ImagesFailed, match="is no tag"):
        Options(tag=tag)


@pytest.mark.parametrize(
    ("component", "variant", "contexts"),
    [
        pytest.param(Component.OPERATOR, Variant.CPU, {}, id="operator"),
        pytest.param(Component.WORKER, Variant.CPU, {"wheels": Path("/w")}, id="cpu"),
        pytest.param(Component.WORKER, Variant.CUDA, {}, id="cuda"),
    ],
)
def test_wheels_of_the_cpu_build_go_to_the_cpu_worker_alone(
    component: Component, variant: Variant, contexts: dict[str, Path]
) -> None:
    plan = plan_for(
        component,
        Options(variant=variant),
        base_image=PINNED,
        version="0.1.0",
        revision="c0ffee",
        secrets={},
        wheels=Path("/w"),
    )
    kinds = {"BACKEND": "transformers", "VARIANT": variant}
    assert plan.contexts == contexts
    assert plan.arguments == {
        "BASE_IMAGE": PINNED,
        "VERSION": "0.1.0",
        "REVISION": "c0ffee",
        **(kinds if component is Component.WORKER else {}),
    }


@pytest.mark.parametrize(
    ("environment", "lines"),
    [
        pytest.param({"HOME": "/root", "UV_CACHE_DIR": "/c", "PIP_CERT": "/c"}, [], id="nothing"),
        pytest.param(
            {"PIP_INDEX_URL": "https://user:it's@index.example/simple"},
            [
                "export PIP_INDEX_URL='https://user:it'\"'\"'s@index.example/simple'",
                "export UV_DEFAULT_INDEX='https://user:it'\"'\"'s@index.example/simple'",
            ],
            id="pip-tells-uv",
        ),
        pytest.param(
            {"UV_DEFAULT_INDEX": "ours=https://index.example/simple"},
            [
                "export UV_DEFAULT_INDEX=ours=https://index.example/simple",
                "export PIP_INDEX_URL=https://index.example/simple",
            ],
            id="uv-tells-pip",
        ),
        pytest.param(
            {"PIP_INDEX_URL": "https://a/simple", "UV_INDEX_URL": "https://b/simple"},
            [
                "export PIP_INDEX_URL=https://a/simple",
                "export UV_INDEX_URL=https://b/simple",
            ],
            id="each-its-own",
        ),
        pytest.param(
            {
                "PIP_EXTRA_INDEX_URL": "https://a/x",
                "PIP_DEFAULT_TIMEOUT": "9",
                "UV_INDEX_OURS_PASSWORD": "p",
                "PIP_FIND_LINKS": "/wheels",
            },
            [
                "export PIP_DEFAULT_TIMEOUT=9",
                "export PIP_EXTRA_INDEX_URL=https://a/x",
                "export UV_INDEX_OURS_PASSWORD=p",
                "export UV_INDEX=https://a/x",
            ],
            id="more",
        ),
    ],
)
def test_the_index_of_the_environment(environment: dict[str, str], lines: list[str]) -> None:
    assert packages.index_lines(environment).splitlines() == lines


def test_secrets_are_files_for_this_user_alone(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    environment = {
        "SSL_CERT_FILE": str(tmp_path / "none.crt"),
        "PIP_CERT": str(bundle),
        "PIP_INDEX_URL": "https://index.example/simple",
    }
    found = secret_files(tmp_path, environment)
    assert found == {"ca": bundle, "environment": tmp_path / "environment"}
    assert found["environment"].stat().st_mode & 0o777 == 0o600
    assert secret_files(tmp_path, {}) == {}


def test_wheels_are_the_first_folder_with_torch(tmp_path: Path) -> None:
    for name in ("empty", "other", "torch"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "numpy-2.0-py3-none-any.whl").touch()
    (tmp_path / "torch" / "torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl").touch()
    environment = {
        "UV_FIND_LINKS": f"{tmp_path}/empty,https://index.example/wheels",
        "PIP_FIND_LINKS": f"{tmp_path}/other file://{tmp_path}/torch",
    }
    assert packages.torch_wheels(environment) == tmp_path / "torch"
    assert packages.torch_wheels({"UV_FIND_LINKS": f"{tmp_path}/other"}) is None
    assert packages.torch_wheels({}) is None


@pytest.mark.parametrize(
    ("working", "wanted", "found"),
    [
        pytest.param({"docker", "podman", "buildah"}, "auto", "docker", id="docker-first"),
        pytest.param({"podman", "buildah"}, "auto", "podman", id="no-daemon"),
        pytest.param({"docker", "buildah"}, "buildah", "buildah", id="named"),
    ],
)
def test_the_engine_is_one_that_works(working: set[str], wanted: str, found: str) -> None:
    run = Commands(fails=lambda line: line.split()[0] not in working)
    assert choose_engine(wanted, run, quiet, can_install=lambda: False).name == found


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        pytest.param("auto", [engine.name for engine in ENGINES], id="any"),
        pytest.param("podman", ["podman"], id="named"),
    ],
)
def test_without_an_engine_it_says_what_to_install(wanted: str, named: list[str]) -> None:
    run = Commands(fails=lambda _: True)
    with pytest.raises(ImagesFailed, match=r"apt-get install buildah") as caught:
        choose_engine(wanted, run, quiet, can_install=lambda: False)
    listed = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-1]]
    assert listed == named


@pytest.mark.parametrize(
    ("wanted", "fails", "found"),
    [
        pytest.param("auto", (), PINNED, id="stored"),
        pytest.param("auto", ("inspect",), PINNED, id="pulled"),
        pytest.param("mine:1", ("inspect",), "mine:1", id="named"),
        pytest.param("auto", (PINNED,), base.bootstrapped_reference(), id="bootstrapped-before"),
    ],
)
def test_the_base(tmp_path: Path, wanted: str, fails: tuple[str, ...], found: str) -> None:
    run = Commands(fails=lambda line: any(part in line for part in fails))
    assert find_base(wanted, run, tmp_path) == found


def test_a_bootstrapped_base_is_imported_from_the_cache(tmp_path: Path) -> None:
    reference = base.bootstrapped_reference()
    archive = tmp_path / f"{reference.rpartition(':')[2]}.tar"
    archive.touch()
    run = Commands(fails=lambda line: "inspect" in line or "pull" in line)
    assert find_base("auto", run, tmp_path) == reference
    assert run.ran[-1] == f"docker import {archive} {reference}"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param("mine:1", "has no image mine:1 and cannot pull it", id="named"),
        pytest.param("auto", "run this as root on Debian", id="pinned"),
    ],
)
def test_without_a_base_it_says_what_to_do(tmp_path: Path, wanted: str, message: str) -> None:
    run = Commands(fails=lambda _: True)
    with pytest.raises(ImagesFailed, match=message) as caught:
        find_base(wanted, run, tmp_path, can_bootstrap=False)
    assert "--base" in str(caught.value)


def find_base(wanted: str, run: Commands, cache: Path, *, can_bootstrap: bool = True) -> str:
    return base.find(
        wanted,
        PINNED,
        Docker(),
        cache,
        run=run,
        say=quiet,
        can_bootstrap=lambda: can_bootstrap,
    )


def test_the_bootstrap_leaves_out_what_an_image_does_not_need() -> None:
    bootstrap, tar = base.bootstrap_commands(Path("/b/root"), Path("/b/base.tar"))
    assert bootstrap[-2:] == ("bookworm", "/b/root")
    assert "--include=ca-certificates,python3,python3-venv" in bootstrap
    assert "--exclude=./dev/*" in tar
    assert tar[-3:] == ("--file=/b/base.tar", "--directory=/b/root", ".")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("[1/4] STEP 2/4: RUN  a  b", "[1/4] STEP 2/4: RUN a b", id="buildah"),
        pytest.param("STEP 2/4: COPY a b", "STEP 2/4: COPY a b", id="one-stage"),
        pytest.param("#7 [project 3/6] COPY a b", "#7 [project 3/6] COPY a b", id="docker"),
        pytest.param("[1/4] STEP 3/4: ENV A=b", None, id="no-work"),
        pytest.param("Downloading torch (190 MiB)", None, id="output"),
        pytest.param(f"STEP 1/1: RUN {'x' * 200}", f"STEP 1/1: RUN {'x' * 83}...", id="long"),
    ],
)
def test_what_a_waiting_user_reads(line: str, said: str | None) -> None:
    assert step_of(line) == said
