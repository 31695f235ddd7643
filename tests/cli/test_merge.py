import pytest
from transformers import AutoModelForSequenceClassification

from tests.cli.conftest import fmn, succeeded
from tests.steps.world import LABELS, files


def test_a_merge_loads_for_every_task_and_says_where(world, tmp_path):
    out = tmp_path / "made" / "merged"
    result = succeeded(
        fmn("merge", world.recipe(tmp_path / "recipe.yaml", tuple(LABELS)), "--out", out)
    )
    places = ", ".join(str(out / task) for task in sorted(LABELS))
    assert result.stdout == f"{out}: 3 models merged by mask-fisher; load {places}\n"
    assert result.stderr == ""
    for task, labels in LABELS.items():
        model = AutoModelForSequenceClassification.from_pretrained(out / task)
        assert tuple(model.config.id2label.values()) == labels
    assert sorted(path.name for path in out.parent.iterdir()) == ["merged"]


@pytest.mark.parametrize("method", ["mask-fisher", "fisher"])
def test_fisher_files_and_the_resolved_recipe_give_the_same_bytes(method, world, tmp_path):
    succeeded(
        fmn(
            "merge",
            world.recipe(tmp_path / "recipe.yaml", method=method),
            "--out",
            tmp_path / "computed",
        )
    )
    entries = {}
    for task in ("sst2", "rte"):
        file = tmp_path / f"{task}.safetensors"
        kind = "mask" if method == "mask-fisher" else "diagonal"
        options = ("--task", task, "--data", world.data, "--samples", 16, "--kind", kind)
        succeeded(fmn("fisher", world.model(task), *options, "--out", file))
        entries[task] = {"fisher": str(file)}
    succeeded(
        fmn(
            "merge",
            world.recipe(tmp_path / "given.yaml", method=method, models=entries),
            "--out",
            tmp_path / "given",
        )
    )
    succeeded(fmn("merge", tmp_path / "given" / "recipe.yaml", "--out", tmp_path / "again"))
    computed, used, again = (files(tmp_path / name) for name in ("computed", "given", "again"))
    assert used == again
    assert computed.pop("recipe.yaml") != used.pop("recipe.yaml")
    assert computed == used
