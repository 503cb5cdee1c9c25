"""Fixtures that more than one file of these tests uses."""

import shutil
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.golden_tokenizers import Files


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Callable[[str], Files]]":
    """A real tokenizer by its name in `golden_tokenizers.MAKERS`, written once."""
    from tests.golden_tokenizers import MAKERS

    folder = tmp_path_factory.mktemp("tokenizers")
    yield cache(lambda name: MAKERS[name](folder / name))
    shutil.rmtree(folder)
