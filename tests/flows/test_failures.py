"""What fails, fails alone; what may pass is tried again; what takes too long is ended."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.flows import patches
from tests.flows.conftest import seen

TWO = {"methods": ["average", "mask-fisher"]}


def attempts(project):
    return [
        json.loads(line)["moment"]
        for line in (project.folder / "attempts.txt").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def broken(make_project):
    """A zoo with a model whose weights hold NaN, and what running it came to."""
    project = make_project(own=True, merge=TWO)
    weights = project.world.model("rte") / "model.safetensors"
    project.backup = shutil.copy(weights, project.folder / "whole")
    tensors = load_file(weights)
    name = next(name for name in tensors if "intermediate" in name)
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    save_file(tensors, weights, {"format": "pt"})
    return project, project.run()


def test_a_model_of_nan_fails_its_own_combinations_alone_and_the_summary_names_each_reason_once(
    broken,
):
    project, ran = broken
    assert ran.code == 1
    assert ran.counts("computed") == {"fisher": 2, "merge": 2, "evaluate": 4}
    assert ran.counts("skipped") == {
        "merge": 3,
        "evaluate": 6,
    }  # whose Fisher, or whose merge, is not there
    assert {failure["step"] for failure in ran.summary["failed"]} == {
        "mask Fisher of rte",
        "evaluation of rte",
        "sst2 + rte by average",
        "rte + mnli by average",
        "sst2 + rte + mnli by average",
    }
    lines = [line for line in ran.out.splitlines() if " failed: " in line]
    assert len(lines) == 3
    assert sum("sst2 + rte by average and 2 more failed: " in line for line in lines) == 1
    assert all(str(project.world.model("rte")) in line or "of rte failed" in line for line in lines)
    assert ran.last_line.startswith("computed 2 Fishers, 2 merges, 4 evaluations, ")
    assert "5 failed" in ran.last_line
    assert "Traceback" not in ran.out + ran.err


def test_once_it_is_mended_the_rest_is_computed_and_nothing_else(broken):
    project, _ = broken
    shutil.copy(project.backup, project.world.model("rte") / "model.safetensors")
    ran = project.run()
    assert ran.code == 0, ran.out
    assert ran.counts("cached") == {"fisher": 2, "merge": 2, "evaluate": 4}
    assert ran.counts("computed") == {"fisher": 1, "merge": 6, "evaluate": 7}


def test_a_model_that_cannot_be_opened_is_named_once_and_the_others_are_merged(make_project):
    project = make_project(own=True, merge=TWO)
    weights = project.world.model("mnli") / "model.safetensors"
    weights.rename(project.folder / "moved")
    ran = project.run()
    assert ran.code == 1
    assert [failure["step"] for failure in ran.summary["failed"]] == ["model mnli"]
    assert str(project.world.model("mnli")) in ran.summary["failed"][0]["error"]
    assert ran.counts("computed") == {"fisher": 2, "merge": 2, "evaluate": 4}
    assert "1 failed" in ran.last_line
    shown = seen(project, 2 + 2 + 2 * 2 + 2)
    assert shown.flow_run.state_name == "Failed"

    (project.folder / "moved").rename(weights)
    ran = project.run()
    assert ran.code == 0
    assert ran.counts("computed") == {"fisher": 1, "merge": 6, "evaluate": 7}
    assert ran.counts("cached") == {"fisher": 2, "merge": 2, "evaluate": 4}


def test_a_failure_of_the_store_is_tried_again_after_a_while(make_project):
    project = make_project(merge={"methods": ["average"], "sizes": [2]})
    ran = project.run(patch=patches.store_fails_once)
    assert ran.code == 0, ran.out
    assert ran.counts("computed") == {"merge": 3, "evaluate": 6}
    (first, second) = attempts(project)
    assert second - first >= 2
    shown = seen(project, 3 + 3 * 2 + 2)
    assert {name: task.run_count for name, task in shown.tasks.items() if task.run_count > 1} == {
        "sst2 + rte by average": 2
    }


def test_a_store_that_goes_on_failing_fails_the_step_and_what_needs_it(make_project):
    project = make_project(merge={"methods": ["average"], "sizes": [2]}, runner={"retries": 1})
    ran = project.run(patch=patches.store_always_fails)
    assert ran.code == 1
    assert len(attempts(project)) == 2
    (failure,) = ran.summary["failed"]
    assert failure["step"] == "sst2 + rte by average"
    assert "the store is gone" in failure["error"]
    assert ran.counts("computed")["merge"] == 2


def test_a_failure_of_the_computation_is_not_tried_again(make_project):
    project = make_project(merge={"methods": ["mask-fisher"], "sizes": [2]})
    ran = project.run(patch=patches.fisher_fails_once)
    assert ran.code == 1
    assert len(attempts(project)) == 1
    assert ran.summary["failed"] == [{"step": "mask Fisher of sst2", "error": "no gradient"}]
    assert ran.counts("skipped") == {"merge": 2, "evaluate": 2}
    assert ran.counts("computed") == {"fisher": 2, "merge": 1, "evaluate": 4}
    shown = seen(project, 3 + 3 + 3 * 2 + 2)
    assert shown.tasks["mask Fisher of sst2"].run_count == 1
    assert shown.states()["sst2 + rte by mask-fisher"] == "Skipped"


@pytest.mark.slow
def test_a_step_that_takes_too_long_is_ended_and_only_what_needs_it_is_left_out(make_project):
    project = make_project(merge={"methods": ["mask-fisher"], "sizes": [2]}, runner={"timeout": 15})
    ran = project.run(patch=patches.one_fisher_never_ends)
    assert ran.code == 1
    (failure,) = ran.summary["failed"]
    assert failure["step"] == "mask Fisher of sst2"
    assert "15" in failure["error"]
    assert ran.counts("skipped") == {"merge": 2, "evaluate": 2}
    assert ran.counts("computed") == {"fisher": 2, "merge": 1, "evaluate": 4}
    assert (
        seen(project, 3 + 3 + 3 * 2 + 2).tasks["mask Fisher of sst2"].run_count == 1
    )  # it would take as long again
