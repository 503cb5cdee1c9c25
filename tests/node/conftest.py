"""A real node for the tests of this folder: from kind, or our own as root."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from modelworker_devcluster import binaries, images
from modelworker_devcluster.node import Node, choose
from tests.node_world import TAG, World

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Print a step at once: what comes before the first test takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(step: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nnode: {step}", end="", flush=True)

    return tell


@pytest.fixture(scope="session")
def node(say: Say) -> Iterator[Node]:
    """A node with real containers, shared by all tests of the session."""
    running = choose()
    running.start(say)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def world(node: Node, say: Say, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The node with the images of this checkout, and helm."""
    archives = tmp_path_factory.mktemp("images")
    built = images.build(images.Options(tag=TAG, archives=archives), say)
    for archive in built.archives.values():
        say(f"giving the node {archive.name}")
        node.load_image(archive)
    shutil.rmtree(archives)
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    return World(node, binaries.locate_helm(say), home)
