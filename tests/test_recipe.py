from pathlib import Path

import pytest
import yaml

from fmn.errors import ParamsError
from fmn.recipe import FisherSettings, ModelEntry, Recipe, read_recipe, task_name


def recipe(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    return read_recipe(tmp_path / "recipe.yaml")


def test_the_least_that_has_to_be_said(tmp_path):
    result = recipe(tmp_path, "method: average\nmodels: [{model: a, task: sst2}]")
    assert result == Recipe(method="average", models=(ModelEntry(model="a", task="sst2"),))
    assert (result.models[0].weight, result.parameters) == (1.0, {})
    assert (result.data, result.dtype, result.fisher) == ("nyu-mll/glue", "same", FisherSettings())
    assert result.fisher.model_dump() == {
        "samples": 128,
        "seed": 0,
        "replacement": False,
        "max_length": 128,
        "batch_size": 32,
        "labels": None,
        "placement": "after-activation",
        "aggregation": "per-example",
        "dtype": "same",
        "nodes": ("attention", "feed-forward"),
    }


def test_nodes_are_a_set_that_the_papers_are_always_in(tmp_path):
    text = "method: average\nmodels: [{{model: a}}]\nfisher: {{nodes: {}}}"
    for said in ("[layers, residual-channels]", "[residual-channels, attention, layers, layers]"):
        assert recipe(tmp_path, text.format(said)).fisher.nodes == (
            "attention",
            "feed-forward",
            "residual-channels",
            "layers",
        )
    assert recipe(tmp_path, text.format("[]")).fisher == FisherSettings()
    with pytest.raises(ParamsError, match=r"fisher\.nodes\.1: .*'residual-channels'"):
        recipe(tmp_path, text.format("[layers, channels]"))


@pytest.mark.parametrize("value", ["true", "'true'", "True"])
def test_labels_true_needs_no_quotes(value, tmp_path):
    result = recipe(
        tmp_path,
        f"method: average\nmodels: [{{model: a, task: sst2}}]\nfisher: {{labels: {value}}}",
    )
    assert result.fisher.labels == "true"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "fisher: {labels: false}",
            "fisher.labels: Input should be 'true', 'expected' or 'sampled'",
        ),
        ("fisher: {samples: 0}", "fisher.samples: Input should be greater than or equal to 1"),
        ("fisher: {seed: -1}", "fisher.seed: Input should be greater than or equal to 0"),
        (
            "fisher: {seed: null, replacement: true}",
            "fisher: replacement draws examples by a seed; give one",
        ),
        ("fisher: {batch_size: 0}", "fisher.batch_size: .*equal to 1"),
        ("fisher: {max_length: 3}", "fisher.max_length: .*equal to 4"),
        ("dtype: int8", "dtype: Input should be 'same', 'float32', 'bfloat16' or 'float16'"),
        ("parameters: paper", "parameters: Input should be a valid dictionary"),
    ],
)
def test_values_that_make_no_sense(line, message, tmp_path):
    with pytest.raises(ParamsError, match=message):
        recipe(tmp_path, f"method: average\nmodels: [{{model: a, task: sst2}}]\n{line}")


@pytest.mark.parametrize(
    "task", ["../up", "a/b", "", ".hidden", "a b", "/abs", "tasks/.yaml", "..", "a\nb"]
)
def test_tasks_that_could_not_name_a_directory(task):
    with pytest.raises(ValueError, match="names no task; expected letters, digits"):
        ModelEntry(model="a", task=task)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("sst2", "sst2"),
        ("a.b-c_D", "a.b-c_D"),
        ("toy.yaml", "toy"),
        ("../x/toy.yml", "toy"),
        ("/abs/toy.yaml", "toy"),
    ],
)
def test_a_task_file_is_called_by_its_name(task, name):
    assert task_name(task) == ModelEntry(model="a", task=task).name == name


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a b", "a\nb", "..", "/abs"])
def test_names_that_could_not_name_a_directory(name):
    with pytest.raises(ValueError, match="cannot name a directory; expected letters, digits"):
        ModelEntry(model="a", task="sst2", name=name)


def test_a_name_of_its_own_is_kept():
    entry = ModelEntry(model="a", task="tasks/toy.yaml", name="mine")
    assert (entry.name, entry.task) == ("mine", "tasks/toy.yaml")
    assert ModelEntry.model_validate(entry.model_dump()) == entry
    assert ModelEntry(model="a", task="tasks/toy.yaml", name="").name == "toy"


def test_no_option_turns_on_remote_code(tmp_path):
    with pytest.raises(ParamsError, match=r"unknown key in models\.0 'trust_remote_code'"):
        recipe(
            tmp_path, "method: average\nmodels: [{model: a, task: sst2, trust_remote_code: true}]"
        )


def test_survives_being_written_and_read(tmp_path):
    entry = ModelEntry(
        model="a",
        task="rte",
        weight=0.1,
        fisher=Path("x/y"),
        labels={True: "entailment", 0: "not_entailment", "B": "b"},
        digest="d",
    )
    original = Recipe(
        method="fisher",
        models=(entry,),
        fisher=FisherSettings(seed=None, labels="true"),
        dtype="bfloat16",
    )
    result = recipe(tmp_path, yaml.safe_dump(original.model_dump(), sort_keys=False))
    assert result == original
    assert [type(key) for key in result.models[0].labels] == [bool, int, str]
