"""The rooms of the house: where a line of code may live, held on the AST."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLAIN_FOLDERS = (
    *("operator", "worker_image", "client", "devcluster"),
    *("tests", "bench", "docs", "examples", "helm"),
)
PACKAGES = {
    "operator": ROOT / "operator/modelworker_operator",
    "server": ROOT / "worker_image/modelworker_server",
    "client": ROOT / "client/modelworker",
    "api": ROOT / "client/modelworker_api",
    "devcluster": ROOT / "devcluster/modelworker_devcluster",
}
LONGEST_FILE = 350


def sources(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the packages, parsed."""
    for package in packages:
        for path in sorted(PACKAGES[package].rglob("*.py")):
            yield path, ast.parse(path.read_text(), filename=str(path))


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string of the code that is not a docstring."""
    docstrings = {
        id(node.value)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for node in parent.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ):
            yield node


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted text of each attribute access on names, such as `os.environ`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def report(found: list[tuple[Path, int, str]]) -> str:
    """The strangers found in a room, a line each."""
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {what}" for path, line, what in found)


def outside(path: Path, *rooms: str) -> bool:
    """True when `path` is none of the rooms (paths or folders relative to the root)."""
    relative = path.relative_to(ROOT).as_posix()
    return not any(relative == room or relative.startswith(f"{room}/") for room in rooms)


@pytest.mark.parametrize("folder", PLAIN_FOLDERS)
def test_folder_is_no_package(folder: str) -> None:
    # operator/__init__.py would shadow the standard library's operator.
    assert not (ROOT / folder / "__init__.py").exists()


def test_standard_operator_is_not_shadowed_from_the_root() -> None:
    code = "import operator, collections; print(operator.itemgetter(0)([7]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\n"


OPERATOR = "operator/modelworker_operator"
SERVER = "worker_image/modelworker_server"
CLIENT = "client/modelworker"


@pytest.mark.parametrize(
    ("packages", "modules", "rooms"),
    [
        pytest.param(
            ("operator",),
            ("kopf",),
            (f"{OPERATOR}/handlers.py", f"{OPERATOR}/__main__.py"),
            id="kopf",
        ),
        pytest.param(
            ("operator", "client"),
            ("kubernetes",),
            (
                f"{OPERATOR}/cluster.py",
                f"{OPERATOR}/election.py",
                f"{OPERATOR}/__main__.py",
                f"{CLIENT}/_endpoints.py",
                f"{CLIENT}/_kube.py",
                f"{CLIENT}/cli/_cluster.py",
            ),
            id="kubernetes",
        ),
        pytest.param(("client",), ("httpx",), (f"{CLIENT}/_http.py",), id="httpx"),
        pytest.param(
            ("server",),
            ("torch", "transformers", "vllm"),
            (f"{SERVER}/workers", f"{SERVER}/scoring/batching.py"),
            id="model-libraries",
        ),
        pytest.param(
            ("operator", "server", "client", "api"),
            ("yaml", "requests"),
            (f"{CLIENT}/cli/_output.py",),
            id="undeclared",
        ),
    ],
)
def test_import_lives_in_its_room(
    packages: tuple[str, ...], modules: tuple[str, ...], rooms: tuple[str, ...]
) -> None:
    found = [
        (path, line, name)
        for path, tree in sources(*packages)
        for line, name in imports(tree)
        if name.split(".")[0] in modules and outside(path, *rooms)
    ]
    assert not found, report(found)


@pytest.mark.parametrize(
    ("packages", "text", "rooms"),
    [
        pytest.param(
            ("operator", "server", "client"),
            ("os.environ", "os.getenv", "os.putenv"),
            (
                f"{OPERATOR}/config.py",
                f"{SERVER}/settings.py",
                f"{CLIENT}/_kube.py",
                f"{CLIENT}/_settings.py",
            ),
            id="environment",
        ),
        pytest.param(
            ("operator",),
            ("time.time", "time.monotonic", "datetime.now", "uuid.uuid4", "datetime.datetime.now"),
            (f"{OPERATOR}/handlers.py", f"{OPERATOR}/__main__.py"),
            id="clock",
        ),
        pytest.param(
            ("operator",),
            ("kopf.PermanentError", "kopf.TemporaryError"),
            (f"{OPERATOR}/handlers.py",),
            id="kopf-errors",
        ),
    ],
)
def test_attribute_lives_in_its_room(
    packages: tuple[str, ...], text: tuple[str, ...], rooms: tuple[str, ...]
) -> None:
    found = [
        (path, line, name)
        for path, tree in sources(*packages)
        for line, name in attributes(tree)
        if name in text and outside(path, *rooms)
    ]
    assert not found, report(found)


def test_api_version_literals_live_in_desired() -> None:
    found = [
        (path, key.lineno, "apiVersion")
        for path, tree in sources("operator")
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value == "apiVersion"
        if outside(path, f"{OPERATOR}/desired.py")
    ]
    assert not found, report(found)


def test_group_and_label_keys_live_in_the_contract() -> None:
    found = [
        (path, node.lineno, repr(node.value))
        for path, tree in sources("operator", "server", "client")
        for node in strings(tree)
        if isinstance(node.value, str)
        and ("modelworker.dev" in node.value or "app.kubernetes.io/" in node.value)
    ]
    assert not found, report(found)


def test_conditions_live_in_status() -> None:
    found = [
        (path, node.lineno, repr(node.value))
        for path, tree in sources("operator")
        for node in strings(tree)
        if node.value in ("observedGeneration", "lastTransitionTime")
        and not path.name.startswith(("status", "_status", "conditions"))
        and outside(path, f"{OPERATOR}/status")
    ]
    assert not found, report(found)


def test_routers_live_in_routes() -> None:
    found = [
        (path, node.lineno, ast.unparse(decorator))
        for path, tree in sources("server")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("router.") and outside(path, f"{SERVER}/routes")
    ]
    assert not found, report(found)


def test_a_route_is_a_sentence() -> None:
    found = [
        (path, node.lineno, f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines")
        for path, tree in sources("server")
        if not outside(path, f"{SERVER}/routes")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(one).startswith("router.") for one in node.decorator_list)
        and (node.end_lineno or 0) - node.lineno + 1 > 12
    ]
    assert not found, report(found)


def test_status_codes_of_the_worker_live_in_errors() -> None:
    found = [
        (path, node.lineno, str(node.value))
        for path, tree in sources("server")
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "status_code"
        and isinstance(node.value, ast.Constant)
        and outside(path, f"{SERVER}/errors.py")
    ]
    assert not found, report(found)


def test_no_file_is_too_long() -> None:
    found = [
        (path, length, "lines")
        for folder in (*PACKAGES.values(), ROOT / "tests", ROOT / "bench", ROOT / "examples")
        for path in sorted(folder.rglob("*.py"))
        if (length := len(path.read_text().splitlines())) > LONGEST_FILE
    ]
    assert not found, report(found)


def test_every_package_is_typed_and_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    shipped = [str(path.relative_to(ROOT)) for name, path in PACKAGES.items()]
    assert sorted(wheel) == sorted(path for path in shipped if not path.startswith("devcluster"))
    assert all((ROOT / path / "py.typed").exists() for path in wheel)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        pytest.param(
            "modelworker",
            ("torch", "transformers", "kopf", "fastapi", "starlette", "kubernetes"),
            id="client",
        ),
        pytest.param("modelworker_api.kube", ("pydantic", "httpx"), id="contract"),
        pytest.param(
            "modelworker_operator.reconcile",
            ("torch", "transformers", "fastapi", "kopf"),
            id="operator",
        ),
        pytest.param("modelworker_server.app", ("torch", "transformers", "kopf"), id="server"),
    ],
)
def test_import_loads_nothing_heavy(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {unwanted!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_python_m_vulnerable_names_stay_out_of_the_root() -> None:
    # The Makefile puts the root on no path, pytest does: nothing there may hide a library.
    folders = {
        path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    assert not folders & set(sys.stdlib_module_names)
