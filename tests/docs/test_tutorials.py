"""The tutorials are executed, by readers who follow them from top to bottom.

Those with servers have files of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.reader import Reader

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.mark.slow
def test_one_person(new_clone: Callable[[], Path], programs: Path) -> None:
    folder = new_clone()
    with Reader(folder, programs) as reader:
        printed = "".join(reader.follow(TUTORIALS / "one-person.md"))
    assert (folder / "merged" / "qqp" / "config.json").is_file()
    assert re.search(r"mnli +accuracy +\d+\.\d\d", printed)
    assert re.search(r"\{'negative': 0\.\d+, 'positive': 0\.\d+\}", printed)
    assert "computed 5 Fishers, 12 merges, 15 evaluations" in printed
    assert "mask-fisher, normalize mean" in printed
    assert (folder / "report" / "index.html").is_file()


@pytest.mark.slow
def test_extending(new_clone: Callable[[], Path], programs: Path) -> None:
    folder = new_clone()
    site = (
        folder.parent / "site-packages"
    )  # where pip puts the package: this environment stays as it is
    offline = {
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
    }
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    with Reader(folder, programs, PYTHONPATH=path, **offline) as reader:
        printed = "".join(reader.follow(TUTORIALS / "extending.md"))
    assert re.search(r"caught +\d+\.\d\d", printed)
    assert "3 models merged by median" in printed
    assert printed.count("tensor([") == 2
    assert "2 models merged by by-moments" in printed
    assert "computed 2 Fishers, 4 merges, 6 evaluations, took 2 Fishers from the store" in printed
    assert "second moments of inputs" in printed and ": the same weights" in printed
    assert re.search(r"\d\d passed", printed)
    assert (folder / "moments-report" / "index.html").is_file()
