"""Registries refuse what would clash, and read other packages' entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmn import registry
from fmn.errors import ParamsError
from fmn.evaluation import metrics, tasks
from fmn.registry import Registry

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with entry points on the path, as an installed distribution."""

    def install(source: str, entry_points: str) -> None:
        (tmp_path / "fmn_plugin_for_tests.py").write_text(source)
        info = tmp_path / "fmn_plugin_for_tests-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: fmn-plugin-for-tests\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "fmn_plugin_for_tests", raising=False)

    return install


def fresh_tasks() -> Registry[tasks.Task]:
    return Registry("task", "fmn.tasks", tasks._TASKS._unfold, "hint")


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "-a", ".a", "a b", "ä", "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ParamsError, match="names become paths"):
        registry.check_name("task", name)


def test_duplicates_are_refused() -> None:
    registry = fresh_tasks()
    registry.register("rte", tasks.get_task("rte"))
    with pytest.raises(ParamsError, match="task 'rte' is registered already"):
        registry.register("rte", tasks.get_task("rte"))


def test_entry_points_give_one_task_or_several_and_metrics(install: Install) -> None:
    install(
        "from fmn.evaluation import Task\n"
        "one = Task(name='one', columns=('a',), labels=('x', 'y'), metrics=('mine',))\n"
        "more = (one.model_copy(update={'name': n}) for n in ('two', 'three'))\n"
        "def mine(predictions, references): return 0.25\n",
        "[fmn.tasks]\none = fmn_plugin_for_tests:one\nmore = fmn_plugin_for_tests:more\n"
        "[fmn.metrics]\nmine = fmn_plugin_for_tests:mine\n",
    )
    registry = fresh_tasks()
    assert registry.get("two").columns == ("a",)
    assert registry.names() == ("one", "three", "two")
    entries: Registry[metrics.Metric] = Registry("metric", "fmn.metrics", metrics._unfold, "hint")
    assert entries.get("mine")(np.zeros(1), np.zeros(1)) == 0.25


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise OSError('no disk')", "OSError: no disk; mend or uninstall that package"),
        ("found = 3", "expected one Task or several, got int"),
        ("found = [3]", "expected one Task or several, got int"),
    ],
)
def test_a_broken_entry_point_names_its_package_at_every_lookup(
    install: Install, source: str, message: str
) -> None:
    install(source, "[fmn.tasks]\nbroken = fmn_plugin_for_tests:found\n")
    registry = fresh_tasks()
    for _ in range(2):
        with pytest.raises(
            ParamsError, match="'broken' of package 'fmn-plugin-for-tests'"
        ) as error:
            registry.get("anything")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_an_entry_point_that_is_no_metric(install: Install) -> None:
    install("found = 3", "[fmn.metrics]\nbroken = fmn_plugin_for_tests:found\n")
    registry: Registry[metrics.Metric] = Registry("metric", "fmn.metrics", metrics._unfold, "hint")
    with pytest.raises(
        ParamsError, match="expected a function of predictions and references, got int"
    ):
        registry.get("anything")
