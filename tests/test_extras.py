"""Extras are those of pyproject.toml, and what lacks is said in one line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

import fmn
from fmn.errors import FmnError
from fmn.extras import EXTRAS, require

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_the_distribution_is_that_of_pyproject():
    assert PROJECT["name"] == fmn.DISTRIBUTION


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_there_passes(extra):
    require(extra, "a test")


@pytest.mark.parametrize(
    ("extra", "package"), [(extra, package) for extra, names in EXTRAS.items() for package in names]
)
def test_one_package_that_lacks_is_named_with_its_extra(extra, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    line = (
        f"a picture needs {package}, which is not installed; install it with: pip install "
        f"'fisher-mask-nodes[{extra}]'"
    )
    with pytest.raises(FmnError, match=re.escape(line)):
        require(extra, "a picture")
