"""A recipe needs no task where nothing needs data."""

import pytest
import yaml

from tests.cli.conftest import fmn, succeeded


def recipe(path, world, **settings):
    entries = [{"model": str(world.model(task))} for task in ("sst2", "rte")]
    path.write_text(yaml.safe_dump({"models": entries, **settings}))
    return path


@pytest.mark.parametrize("method", ["average", "slerp"])
def test_two_directories_are_merged_without_a_task(method, world, tmp_path):
    file = recipe(tmp_path / "recipe.yaml", world, method=method)
    done = succeeded(fmn("merge", file, "--out", tmp_path / "merged"))
    assert f"2 models merged by {method}" in done.stdout
    resolved = yaml.safe_load((tmp_path / "merged" / "recipe.yaml").read_text())
    assert {entry["name"] for entry in resolved["models"]} == {"rte", "sst2"}
    assert all("task" not in entry for entry in resolved["models"])
    again = succeeded(
        fmn("merge", tmp_path / "merged" / "recipe.yaml", "--out", tmp_path / "again")
    )
    assert "2 models" in again.stdout
    for name in ("rte", "sst2"):
        first, second = (
            (tmp_path / out / name / "backbone-00001-of-00001.safetensors").read_bytes()
            for out in ("merged", "again")
        )
        assert first == second


def test_a_parent_and_two_directories_are_all_that_task_vectors_need(world, tmp_path):
    parent = str(world.model("mnli"))
    file = recipe(tmp_path / "recipe.yaml", world, method="ties", parent=parent)
    succeeded(fmn("merge", file, "--out", tmp_path / "merged"))
    assert (tmp_path / "merged" / "rte" / "config.json").is_file()


def test_a_statistic_needs_a_task_and_says_so_before_anything_runs(refuse, world, tmp_path):
    file = recipe(tmp_path / "recipe.yaml", world, method="mask-fisher", data=world.data)
    line = refuse("which task is it for", "merge", file, "--out", tmp_path / "merged")
    assert "model sst2: which task is it for? Its data are needed; add 'task: NAME'" in line
    assert not (tmp_path / "merged").exists()


def test_a_merge_without_tasks_is_not_measured_by_guessing(refuse, world, tmp_path):
    file = recipe(tmp_path / "recipe.yaml", world, method="average")
    succeeded(fmn("merge", file, "--out", tmp_path / "merged"))
    refuse("which task is it for", "evaluate", tmp_path / "merged", "--data", world.data)
