"""Families by name: shipped, registered, from another package; and what is said of one that nobody
described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fmn import architectures
from fmn.errors import ArchitectureError, ParamsError
from tests.checkpoint.conftest import python


def test_shipped_families() -> None:
    shipped = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"}
    assert shipped <= set(architectures.known())
    assert list(architectures.known()) == sorted(architectures.known())
    assert all(architectures.get(name).model_type == name for name in shipped)


@pytest.mark.parametrize(
    ("name", "near"), [("robert", "roberta"), ("distil-bert", "distilbert"), ("BERT", "bert")]
)
def test_an_unknown_family_names_the_nearest_the_known_and_the_way_to_add_it(
    name: str, near: str
) -> None:
    with pytest.raises(ArchitectureError) as error:
        architectures.get(name)
    line = str(error.value)
    assert line.startswith(f"unknown model family '{name}'; did you mean '{near}'? (known: ")
    assert all(known in line for known in architectures.known())
    assert line.endswith(
        "add one with fmn.architectures.register(Architecture(...)) or an entry point in the group "
        "'fmn.architectures'"
    )
    assert "\n" not in line


@pytest.mark.usefixtures("own_registry")
def test_a_family_can_be_added_once() -> None:
    mine = replace(architectures.get("bert"), model_type="my-bert", prefix="mine")
    architectures.register(mine)
    assert architectures.get("my-bert") is mine
    with pytest.raises(ParamsError, match="model family 'my-bert' is registered already"):
        architectures.register(mine)


def install(folder: Path, source: str) -> None:
    """Lay a package with an entry point into a folder, as pip would."""
    info = folder / "fmn_families_for_tests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fmn-families-for-tests\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[fmn.architectures]\nfamilies = fmn_families_for_tests:FOUND\n"
    )
    (folder / "fmn_families_for_tests.py").write_text(source)


ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from fmn import architectures
from fmn.errors import FmnError
try:
    print(architectures.get("theirs").prefix, *architectures.known())
except FmnError as error:
    print(type(error).__name__, error)
"""
THEIRS = (
    "from dataclasses import replace\nfrom fmn import architectures\none, two = "
    "(replace(architectures.bert.ARCHITECTURES[0], model_type=name, prefix='p') for name in "
    "('theirs', 'more'))\n"
)


@pytest.mark.parametrize(
    "statement", ["FOUND = one", "FOUND = [one, two]", "FOUND = (family for family in (one, two))"]
)
def test_another_package_brings_families(tmp_path: Path, statement: str) -> None:
    install(tmp_path, THEIRS + statement)
    prefix, *known = python(ASK, tmp_path).stdout.split()
    assert prefix == "p"
    assert {"bert", "theirs"} <= set(known)
    assert ("more" in known) == ("two" in statement)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("FOUND = 3", "expected one Architecture or several, got int"),
        ("FOUND = 'bert'", "expected one Architecture or several, got str"),
        ("raise OSError('no disk')", "OSError: no disk"),
        (
            THEIRS + "FOUND = replace(one, model_type='bert')",
            "model family 'bert' is registered already",
        ),
    ],
)
def test_a_package_that_brings_something_else_is_named(
    tmp_path: Path, source: str, message: str
) -> None:
    install(tmp_path, source)
    (line,) = python(ASK, tmp_path).stdout.splitlines()
    assert line.startswith("ArchitectureError")
    assert message in line
