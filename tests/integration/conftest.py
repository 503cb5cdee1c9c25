"""Fixtures that more than one file of these tests uses."""

from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.golden_tokenizers import Files


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Files]":
    """A real tokenizer by its name in `golden_tokenizers.MAKERS`, written once."""
    from tests.golden_tokenizers import MAKERS

    folder = tmp_path_factory.mktemp("tokenizers")
    return cache(lambda name: MAKERS[name](folder / name))
