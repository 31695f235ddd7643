import shutil

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from fmn.checkpoint import open_checkpoint
from fmn.errors import MergeError, ParamsError
from fmn.evaluation import get_task
from fmn.fisher import MaskFisher
from fmn.recipe import read_recipe
from fmn.statistics import get_statistic
from fmn.steps.context import Context
from fmn.steps.recipe import merge_recipe, plan_recipe
from fmn.steps.statistic import StatisticStep
from fmn.store import Memo
from tests.steps.world import LABELS, files, permute, save, write_yaml

TASKS = tuple(LABELS)


def merged(recipe, out, context=None):
    merge_recipe(read_recipe(recipe), out, context or Context(device="cpu"))
    return out


def fisher_file(world, path, task, kind="mask", **settings):
    recipe = read_recipe(
        world.recipe(path.with_suffix(".yaml"), fisher={"samples": 16, **settings})
    )
    step = StatisticStep(
        open_checkpoint(world.model(task)),
        get_task(task),
        world.data,
        get_statistic(kind),
        recipe.fisher,
        Memo(),
    )
    step.compute(Context(device="cpu")).save(path)
    return path


def weights(folder):
    return {name: content for name, content in files(folder).items() if name != "recipe.yaml"}


def refuse_to_compute(monkeypatch):
    for name in ("fmn.fisher.mask_fisher", "fmn.fisher.diagonal_fisher", "fmn.models.load_model"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("expensive work started"))


@pytest.mark.parametrize("method", ["average", "mask-fisher", "fisher"])
def test_the_result_is_the_formula_and_loads(method, world, tmp_path):
    out = merged(world.recipe(tmp_path / "recipe.yaml", TASKS, method=method), tmp_path / "merged")
    parts = [world.load(task).state_dict() for task in TASKS]
    for task, own in zip(TASKS, parts, strict=True):
        model = AutoModelForSequenceClassification.from_pretrained(out / task)
        assert list(model.config.id2label.values()) == list(LABELS[task])
        assert torch.equal(model.classifier.weight, own["classifier.weight"])
        name = "bert.encoder.layer.1.intermediate.dense.weight"
        importances = [torch.ones(())] * 3
        if method != "average":
            kind = "mask" if method == "mask-fisher" else "diagonal"
            settings = read_recipe(tmp_path / "recipe.yaml").fisher
            opened = {t: open_checkpoint(world.model(t)) for t in TASKS}
            steps = [
                StatisticStep(
                    opened[t], get_task(t), world.data, get_statistic(kind), settings, Memo()
                )
                for t in TASKS
            ]
            fishers = [step.compute(Context(device="cpu")) for step in steps]
            importances = [
                f.nodes[1, "feed_forward"][:, None].double()
                if kind == "mask"
                else f.parameters[name.removeprefix("bert.")].double()
                for f in fishers
            ]
        numerator = sum(f * part[name] for f, part in zip(importances, parts, strict=True))
        mean = sum(part[name] for part in parts) / 3
        total = sum(importances) * torch.ones_like(mean)
        expected = torch.where(total > 0, numerator / total, mean)
        torch.testing.assert_close(model.state_dict()[name], expected.float(), rtol=1e-4, atol=1e-6)


def test_given_fishers_are_used_and_not_computed(world, tmp_path, monkeypatch):
    computed = merged(world.recipe(tmp_path / "recipe.yaml"), tmp_path / "computed")
    entries = {
        task: {"fisher": str(fisher_file(world, tmp_path / f"{task}.safetensors", task))}
        for task in ("sst2", "rte")
    }
    refuse_to_compute(monkeypatch)
    used = merged(world.recipe(tmp_path / "recipe.yaml", models=entries), tmp_path / "given")
    assert weights(used) == weights(computed)


def test_one_given_and_one_computed(world, tmp_path):
    computed = merged(world.recipe(tmp_path / "recipe.yaml"), tmp_path / "computed")
    entries = {"rte": {"fisher": str(fisher_file(world, tmp_path / "rte.safetensors", "rte"))}}
    mixed = merged(world.recipe(tmp_path / "recipe.yaml", models=entries), tmp_path / "mixed")
    assert weights(mixed) == weights(computed)


@pytest.mark.parametrize("method", ["average", "mask-fisher"])
def test_the_order_in_the_recipe_changes_nothing(method, world, tmp_path):
    folders = [
        merged(
            world.recipe(tmp_path / f"{number}.yaml", tasks, method=method),
            tmp_path / f"merged{number}",
        )
        for number, tasks in enumerate((TASKS, TASKS[::-1]))
    ]
    assert files(folders[0]) == files(folders[1])  # the resolved recipes too


def test_a_resolved_recipe_does_not_follow_the_version_of_the_day(world, tmp_path, monkeypatch):
    recipe = world.recipe(tmp_path / "recipe.yaml", method="average")
    today = merged(recipe, tmp_path / "today")
    monkeypatch.setattr("fmn.__version__", "17.3.dev1")
    later = merged(recipe, tmp_path / "later")
    assert files(later) == files(today)
    assert files(today)["recipe.yaml"].startswith(b"# resolved by fmn 0.1.0\nmethod: average\n")


def test_the_resolved_recipe_gives_the_same_bytes_again(world, tmp_path):
    entries = {
        "sst2": {
            "weight": 0.3,
            "fisher": str(fisher_file(world, tmp_path / "sst2.safetensors", "sst2")),
        }
    }
    recipe = world.recipe(
        tmp_path / "recipe.yaml",
        TASKS,
        models=entries,
        dtype="bfloat16",
        parameters={"association": "output"},
    )
    first = merged(recipe, tmp_path / "first")
    second = merged(first / "recipe.yaml", tmp_path / "second")
    assert files(first) == files(second)
    content = yaml.safe_load((first / "recipe.yaml").read_text())
    assert [entry["digest"] for entry in content["models"]] == sorted(
        open_checkpoint(world.model(task)).digest() for task in TASKS
    )


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({True: "entailment", False: "not_entailment"}, ("no", "yes")),
        ({1: "entailment", 0: "not_entailment"}, ("LABEL_0", "LABEL_1")),
        ({"left": "entailment", "right": "not_entailment"}, ("right", "left")),
    ],
)
def test_the_resolved_recipe_keeps_label_maps(labels, names, world, tmp_path):
    model = world.load("rte")
    permute(model, [1, 0])
    more = {"model": str(save(model, tmp_path / "model", names)), "labels": labels}
    first = merged(world.recipe(tmp_path / "recipe.yaml", models={"rte": more}), tmp_path / "first")
    assert {entry.task: entry.labels for entry in read_recipe(first / "recipe.yaml").models}[
        "rte"
    ] == labels
    assert files(merged(first / "recipe.yaml", tmp_path / "second")) == files(first)


def test_a_resolved_recipe_refuses_other_weights(world, tmp_path, monkeypatch):
    folder = shutil.copytree(world.model("sst2"), tmp_path / "model")
    recipe = world.recipe(tmp_path / "recipe.yaml", models={"sst2": {"model": str(folder)}})
    first = merged(recipe, tmp_path / "first")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    refuse_to_compute(monkeypatch)
    with pytest.raises(
        MergeError,
        match=(
            r"model: the recipe was resolved with other weights \([0-9a-f]{12}, these are "
            r"[0-9a-f]{12}\)"
        ),
    ):
        merged(first / "recipe.yaml", tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_weights_are_shares(world, tmp_path):
    more = {"sst2": {"weight": 3.0}, "rte": {"weight": 1.0}}
    out = merged(
        world.recipe(tmp_path / "recipe.yaml", method="average", models=more), tmp_path / "merged"
    )
    heavy, light, result = (
        open_checkpoint(f).tensors for f in (world.model("sst2"), world.model("rte"), out / "sst2")
    )
    for name in (name for name in result if name.startswith("bert.")):
        np.testing.assert_allclose(
            result[name], 0.75 * heavy[name] + 0.25 * light[name], rtol=1e-5, atol=1e-7
        )


def test_a_task_of_ones_own(world, tmp_path, monkeypatch):
    task = {
        "name": "reviews",
        "columns": ["sentence"],
        "labels": ["negative", "positive"],
        "metrics": ["accuracy"],
    }
    shutil.copytree(f"{world.data}/sst2", tmp_path / "data" / "reviews")
    shutil.copytree(f"{world.data}/rte", tmp_path / "data" / "rte")
    (tmp_path / "tasks").mkdir()
    file = write_yaml(tmp_path / "tasks" / "reviews.yaml", task)
    for number, path in enumerate((str(file), "tasks/reviews.yaml", "./tasks/reviews.yaml")):
        monkeypatch.chdir(tmp_path)
        recipe = world.recipe(
            tmp_path / "recipe.yaml", data=str(tmp_path / "data"), models={"sst2": {"task": path}}
        )
        out = merged(recipe, tmp_path / f"merged{number}")
        assert sorted(folder.name for folder in out.iterdir()) == [
            "backbone",
            "recipe.yaml",
            "reviews",
            "rte",
        ]
        assert weights(merged(out / "recipe.yaml", tmp_path / f"again{number}")) == weights(out)


def test_everything_is_checked_before_the_first_fisher(world, tmp_path, monkeypatch):
    refuse_to_compute(monkeypatch)

    def refused(error, message, **settings):
        with pytest.raises(error, match=message):
            merged(world.recipe(tmp_path / "recipe.yaml", **settings), tmp_path / "merged")
        assert not list(tmp_path.glob("*merged*"))

    refused(MergeError, "no directory /nowhere/rte", models={"rte": {"model": "/nowhere/rte"}})
    refused(
        MergeError,
        "no file /nowhere/rte.safetensors",
        models={"rte": {"fisher": "/nowhere/rte.safetensors"}},
    )
    refused(ParamsError, "unknown task 'snli'", models={"rte": {"task": "snli"}})
    refused(ParamsError, "unknown merge method 'avrage'; did you mean 'average'", method="avrage")
    refused(MergeError, "weight -1.0; expected a finite number", models={"rte": {"weight": -1}})
    refused(MergeError, "a second model for task 'sst2'", models={"rte": {"task": "sst2"}})


def test_all_that_cannot_be_opened_is_listed(world, tmp_path):
    more = {"sst2": {"model": "/nowhere/a"}, "rte": {"model": "/nowhere/b"}}
    with pytest.raises(MergeError) as error:
        plan_recipe(read_recipe(world.recipe(tmp_path / "recipe.yaml", models=more)), Context())
    assert len(error.value.offences) == 2


def test_a_fisher_of_another_model(world, tmp_path):
    other = fisher_file(world, tmp_path / "sst2.safetensors", "sst2")
    with pytest.raises(MergeError, match="mask Fisher of another model"):
        merged(
            world.recipe(tmp_path / "recipe.yaml", models={"rte": {"fisher": str(other)}}),
            tmp_path / "merged",
        )


def test_a_fisher_given_by_hand_is_the_one_that_counts(world, tmp_path):
    """A Fisher of all ones makes the weighted mean a plain one."""
    entries = {}
    for task in ("sst2", "rte"):
        fisher = MaskFisher.load(fisher_file(world, tmp_path / f"{task}.safetensors", task))
        for _, tensor in fisher.tensors():
            tensor.fill_(2.0)
        fisher.save(tmp_path / f"{task}.safetensors", replace=True)
        entries[task] = {"fisher": str(tmp_path / f"{task}.safetensors")}
    one = merged(world.recipe(tmp_path / "recipe.yaml", models=entries), tmp_path / "one")
    two = merged(world.recipe(tmp_path / "recipe.yaml", method="average"), tmp_path / "two")
    for name, tensor in open_checkpoint(one / "sst2").tensors.items():
        np.testing.assert_allclose(
            tensor, open_checkpoint(two / "sst2").tensors[name], rtol=1e-6, atol=1e-7
        )
