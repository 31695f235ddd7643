"""Methods to compare with, from the command line: what works, and what is refused."""

import re

import pytest
import yaml

from fmn.checkpoint import read
from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.test_methods import METHODS, ON_PARENT, parent_of


@pytest.fixture
def nothing_is_read(monkeypatch):
    for name in ("fmn.checkpoint.open_checkpoint", "fmn.steps.member.open_checkpoint"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("a model was opened"))


@pytest.mark.parametrize("method", METHODS)
def test_merges_by_every_method(method, world, tmp_path):
    recipe, out = world.recipe(tmp_path / "recipe.yaml", method=method), tmp_path / "merged"
    parent = ("--parent", parent_of(tmp_path / "parent")) if method in ON_PARENT else ()
    result = succeeded(fmn("merge", recipe, *parent, "--out", out))
    assert f"2 models merged by {method}" in result.stdout
    assert result.stderr == ""


def test_a_parent_on_the_command_line_goes_before_the_recipes(world, tmp_path):
    recipe = world.recipe(tmp_path / "recipe.yaml", method="ties", parent="nowhere/at-all/x")
    refused(
        fmn("merge", recipe, "--out", tmp_path / "out"), "parent: no directory nowhere/at-all/x"
    )
    succeeded(
        fmn("merge", recipe, "--parent", parent_of(tmp_path / "parent"), "--out", tmp_path / "out")
    )
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["parent"]["model"] == str(
        tmp_path / "parent"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "ties"},
            "method ties needs the parent of the models; name it with 'parent: .*', or --parent",
        ),
        (
            {"method": "ties", "parameters": {"density": 0}},
            "parameters: density: 0 is impossible; expected a number above 0",
        ),
        (
            {"method": "dare-ties", "parameters": {"density": 1.5}},
            "parameters: density: 1.5 is impossible",
        ),
        (
            {"method": "task-arithmetic", "parameters": {"scale": -0.5}},
            "parameters: scale: -0.5 is impossible",
        ),
        ({"method": "regmean", "parameters": {"alpha": 2}}, "parameters: alpha: 2 is impossible"),
        (
            {"method": "dare-linear", "parameters": {"seed": -3}},
            "parameters: seed: -3 is impossible; expected a whole number from 0",
        ),
        (
            {"method": "slerp", "parameters": {"density": 0.5}},
            "parameters: slerp has no parameter density; leave it out, or use one of",
        ),
        (
            {"method": "slerp", "parameters": {"densty": 0.5}},
            "unknown parameter of slerp 'densty'; did you mean 'density'",
        ),
        (
            {"method": "slerp", "tasks": ("sst2", "rte", "mnli")},
            "method slerp merges 2 models, here are 3",
        ),
        (
            {"method": "model-stock", "models": {"rte": {"weight": 2}}, "parent": "x"},
            "model-stock knows no weights, here are 1, 2",
        ),
        ({"method": "ties", "parent": {"path": "x"}}, "unknown key in parent 'path'"),
    ],
)
def test_what_a_recipe_cannot_ask_for_is_refused_before_a_model_is_opened(
    settings, message, world, refuse, tmp_path, nothing_is_read
):
    refuse(
        message,
        "merge",
        world.recipe(tmp_path / "recipe.yaml", **settings),
        "--out",
        tmp_path / "out",
    )


def test_checkpoints_a_parent_and_a_method_are_enough(world, tmp_path):
    """No task, no data, no statistic; the result's directories are called after the models'."""
    parent = parent_of(tmp_path / "parent")
    recipe = tmp_path / "recipe.yaml"
    content = {
        "method": "tsv-m",
        "parent": str(parent),
        "models": [{"model": str(world.model(task))} for task in ("sst2", "rte")],
    }
    recipe.write_text(yaml.safe_dump(content))
    succeeded(fmn("merge", recipe, "--out", tmp_path / "first"))
    content["models"].reverse()
    recipe.write_text(yaml.safe_dump(content))
    succeeded(fmn("merge", recipe, "--out", tmp_path / "second"))
    first, second = (tmp_path / name / "backbone" for name in ("first", "second"))
    (file,) = first.glob("*.safetensors")
    assert file.read_bytes() == (second / file.name).read_bytes()
    assert {path.name for path in (tmp_path / "first").iterdir()} >= {"sst2", "rte", "backbone"}


@pytest.mark.parametrize("method", ON_PARENT)
def test_a_method_on_task_vectors_says_how_to_name_the_parent(method, world, refuse, tmp_path):
    refuse(
        f"method {method} needs the parent of the models; name it with 'parent: .*', or --parent",
        "merge",
        world.recipe(tmp_path / "recipe.yaml", method=method),
        "--out",
        tmp_path / "out",
    )


def test_a_model_that_is_its_parent_is_said_in_a_line(world, tmp_path):
    recipe = world.recipe(tmp_path / "recipe.yaml", method="tsv-m")
    result = succeeded(
        fmn("merge", recipe, "--parent", world.model("rte"), "--out", tmp_path / "out")
    )
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(
        r"warning: .*rte: its backbone is its parent's, .*rte: a task vector of 0, which adds "
        r"nothing to a merge; is it the fine-tune that is meant\?",
        line,
    )


def test_negative_weights(world, refuse, tmp_path, nothing_runs):
    parent = parent_of(tmp_path / "parent")
    recipe = world.recipe(
        tmp_path / "recipe.yaml",
        method="task-arithmetic",
        models={"rte": {"weight": -1}},
        parent=str(parent),
    )
    refuse(
        "rte: weight -1.0; expected a finite number, 0 or more",
        "merge",
        recipe,
        "--out",
        tmp_path / "out",
    )


def test_parents_that_do_not_fit(world, refuse, tmp_path, nothing_runs):
    from transformers import BertConfig, BertForSequenceClassification

    from tests.families import tiny
    from tests.steps.world import SIZES, save

    for number, (model, message) in enumerate(
        (
            (
                tiny("distilbert"),
                "a distilbert model; .* is a bert model; name the model that all are fine-tunes of",
            ),
            (
                BertForSequenceClassification(BertConfig(**{**SIZES, "num_hidden_layers": 3})),
                "3 layers; .* has 2 layers; name the",
            ),
            (
                BertForSequenceClassification(BertConfig(**{**SIZES, "vocab_size": 33})),
                r"word_embeddings.weight has shape \[33, 16\]",
            ),
        )
    ):
        parent = save(model, tmp_path / f"parent{number}")
        recipe = world.recipe(tmp_path / "recipe.yaml", method="ties")
        refuse(
            f"parent .*{message}", "merge", recipe, "--parent", parent, "--out", tmp_path / "out"
        )


def test_a_parent_that_is_not_the_parent_is_a_warning_with_figures(world, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    from tests.steps.world import SIZES, save

    stranger = save(
        BertForSequenceClassification(BertConfig(**{**SIZES, "initializer_range": 3.0})),
        tmp_path / "stranger",
    )
    recipe = world.recipe(tmp_path / "recipe.yaml", method="ties")
    result = succeeded(fmn("merge", recipe, "--parent", stranger, "--out", tmp_path / "out"))
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(
        r"warning: parent .*stranger: the models differ from it by .* and from each other by .* "
        r"times less; .*",
        line,
    )


def test_gram_matrices_by_themselves(world, tmp_path):
    out, options = (
        tmp_path / "rte.safetensors",
        ("--task", "rte", "--data", world.data, "--samples", 16, "--kind", "gram"),
    )
    result = succeeded(fmn("fisher", world.model("rte"), *options, "--out", out))
    assert re.match(r".*: Gram matrices of .*/rte over 16 rte examples", result.stdout)
    tensors, metadata = read(out)
    assert metadata["kind"] == "gram"
    assert all(tensor.shape[0] == tensor.shape[1] for tensor in tensors.values())
    computed = world.recipe(tmp_path / "computed.yaml", method="regmean")
    recipe = world.recipe(
        tmp_path / "given.yaml", method="regmean", models={"rte": {"fisher": str(out)}}
    )
    succeeded(fmn("merge", computed, "--out", tmp_path / "computed"))
    succeeded(fmn("merge", recipe, "--out", tmp_path / "given"))
    shards = [
        next((tmp_path / name / "backbone").iterdir()).read_bytes()
        for name in ("computed", "given")
    ]
    assert shards[0] == shards[1]
    refused(fmn("inspect", out), "is not a Fisher: its kind is 'gram'")
