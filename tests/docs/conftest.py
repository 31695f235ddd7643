"""The demo's zoo, and a reader with a clone of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.reader import brief_zoo, clone
from tests.once import Once


@pytest.fixture(scope="session")
def demo(once: Once) -> Path:
    """The demo's zoo, with models that learnt little."""
    return once.directory("demo", brief_zoo)


@pytest.fixture(scope="session")
def new_clone(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Make a clone with the demo's zoo in it."""

    def made() -> Path:
        folder = clone(tmp_path_factory.mktemp("newcomer") / "fmn")
        shutil.copytree(demo, folder / "demo")
        return folder

    return made
