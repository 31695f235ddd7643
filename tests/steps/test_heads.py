"""What becomes of heads: merged, the tasks' own, or refitted to the merge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fmn.catalog import Catalog
from fmn.checkpoint import open_checkpoint, read
from fmn.errors import ParamsError
from fmn.evaluation import get_task
from fmn.recipe import read_recipe
from fmn.steps.recipe import merge_recipe
from fmn.steps.rederive import get_merge, verify_merge, verify_scores
from tests.steps.conftest import flip, lab_of, make_lab, object_of, reference

PAIR = ("sst2", "rte")
POOLER = ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
HEADS = {
    "merge": {
        "methods": ["average"],
        "combinations": [list(PAIR)],
        "heads": ["merged", "own", "refit"],
    },
    "refit": {"samples": 24},
}


@pytest.fixture(scope="session")
def refitted_once(world, once):
    """A pair by averaging, with each kind of heads; it is to stay as it is."""

    def run(folder):
        assert make_lab(folder, world, **HEADS).computed() == {
            "fisher": 3,
            "merge": 3,
            "evaluate": 6,
        }

    return lab_of(once.directory("heads", run), **HEADS)


@pytest.fixture
def refitted(refitted_once, world, tmp_path):
    import shutil

    shutil.copytree(refitted_once.folder / "store", tmp_path / "store")
    return make_lab(tmp_path, world, **HEADS)


def step_of(lab, kind):
    return lab.open().step(reference("merge", *PAIR, f"average, heads {kind}"))


def record_of(lab, kind):
    return lab.store.get("merge", step_of(lab, kind).key)


def test_own_and_refit_share_a_backbone_that_has_no_pooler(refitted):
    records = {kind: record_of(refitted, kind) for kind in ("merged", "own", "refit")}
    assert "heads" not in records["merged"].inputs
    assert records["own"].inputs["heads"] == "own"
    assert records["refit"].inputs["heads"]["refit"].keys() == set(PAIR)
    own, refit = (records[kind].value["backbone"] for kind in ("own", "refit"))
    assert own == refit != records["merged"].value["backbone"]
    assert records["own"].outputs == {}
    graph = refitted.open()
    individual = open_checkpoint(refitted.world.model("rte")).tensors
    merged = graph.step(reference("merge", *PAIR, "average, heads own")).derive(
        refitted.store, refitted.context()
    )
    assert not [name for name in merged.backbone if "pooler" in name]
    model = merged.put_into(refitted.context().body(open_checkpoint(refitted.world.model("rte"))))
    for name in POOLER:
        np.testing.assert_array_equal(model.state_dict()[name], individual[name])


def by_hand(lab, task, samples=24):
    """Return states, aims and a pooler, sampled and run without the steps of fmn."""
    from fmn.evaluation import encode, load_split, sample
    from tests.evaluation.conftest import make_tokenizer

    rows = sample(load_split(lab.world.data, get_task(task), "train"), samples, 0)
    encoded = encode(make_tokenizer(), rows, 128)
    own, merged = lab.world.load(task), lab.world.load(task)
    other = lab.world.load(next(name for name in PAIR if name != task))
    for name, parameter in merged.bert.named_parameters():
        if not name.startswith("pooler."):
            parameter.data = (parameter.data + other.bert.get_parameter(name).data) / 2
    states = {"own": [], "merged": []}
    with torch.no_grad():
        for _, batch in encoded.batches(1, order="file"):
            batch.pop("labels")
            for kind, model in (("own", own), ("merged", merged)):
                states[kind].append(model.bert(**batch).last_hidden_state[0, 0].double())
    x, before = (torch.stack(states[kind]).numpy() for kind in ("merged", "own"))
    weight = own.bert.pooler.dense.weight.detach().double().numpy()
    bias = own.bert.pooler.dense.bias.detach().double().numpy()
    return x, before @ weight.T + bias, weight, bias


def test_a_refitted_head_solves_its_regression(refitted):
    record = record_of(refitted, "refit")
    tensors, _ = read(refitted.store.path(record.outputs["heads"]))
    for task in PAIR:
        fit = record.value["heads"][task]
        assert fit["map"] == "bert.pooler.dense"
        x, y, own, bias = by_hand(refitted, task)
        assert fit["own_error"] == pytest.approx(np.mean((x @ own.T + bias - y) ** 2), rel=1e-4)
        if fit["ridge"] is None:
            assert f"{task}/bert.pooler.dense.weight" not in tensors
            continue
        wide = np.hstack([x, np.ones((len(x), 1))])
        pull = fit["ridge"] * np.mean(np.diag(x.T @ x)) * np.eye(wide.shape[1])
        pull[-1, -1] = 0
        change = np.linalg.solve(wide.T @ wide + pull, wide.T @ (y - x @ own.T - bias))
        got = tensors[f"{task}/bert.pooler.dense.weight"]
        np.testing.assert_allclose(got, own + change[:-1].T, rtol=0, atol=1e-4)
        np.testing.assert_allclose(
            tensors[f"{task}/bert.pooler.dense.bias"], bias + change[-1], rtol=0, atol=1e-4
        )
        assert fit["error"] < fit["own_error"]
    assert any(fit["ridge"] is not None for fit in record.value["heads"].values())


def test_a_merge_with_refitted_heads_is_taken_home_verified_and_measured_again(refitted, tmp_path):
    catalog = Catalog(refitted.store)
    entry = next(entry for entry in catalog.entries.values() if entry.heads == "refit")
    assert {each.heads for each in catalog.entries.values()} == {"merged", "own", "refit"}
    assert entry.as_json()["heads"] == "refit"
    assert "heads" not in entry.parameters
    get_merge(catalog, entry.id, tmp_path / "taken", refitted.context())
    heads, _ = read(refitted.store.path(entry.record.outputs["heads"]))
    for task in PAIR:
        tensors = open_checkpoint(tmp_path / "taken" / task).tensors
        individual = open_checkpoint(refitted.world.model(task)).tensors
        for name in POOLER:
            expected = heads.get(f"{task}/{name}", individual[name])
            np.testing.assert_array_equal(tensors[name], expected)
    assert verify_merge(catalog, entry, refitted.context()) == entry.record.value["backbone"]
    assert verify_scores(catalog, entry, refitted.context()) == []
    card = (tmp_path / "taken" / "README.md").read_text()
    assert "refitted to it in closed form" in card
    assert "refit:\n  max_length: 128\n  samples: 24\n" in card
    recipe = read_recipe(tmp_path / "taken" / "recipe.yaml")
    assert (recipe.heads, recipe.refit.samples) == ("refit", 24)


def test_a_recipe_refits_as_a_zoo_does_and_says_so(refitted, tmp_path):
    recipe = read_recipe(
        refitted.world.recipe(
            tmp_path / "recipe.yaml",
            tasks=PAIR,
            method="average",
            heads="refit",
            refit={"samples": 24},
        )
    )
    merge_recipe(recipe, tmp_path / "merged", refitted.context())
    heads, _ = read(refitted.store.path(record_of(refitted, "refit").outputs["heads"]))
    for name, tensor in heads.items():
        task, _, full = name.partition("/")
        np.testing.assert_allclose(
            open_checkpoint(tmp_path / "merged" / task).tensors[full], tensor, rtol=1e-5
        )
    again = read_recipe(tmp_path / "merged" / "recipe.yaml")
    assert (again.heads, again.refit.samples) == ("refit", 24)


def test_a_resolved_recipe_that_says_nothing_of_heads_merges_them(refitted, tmp_path):
    for heads, is_written in (("merged", False), ("own", True)):
        file = refitted.world.recipe(tmp_path / f"{heads}.yaml", method="average", heads=heads)
        merge_recipe(read_recipe(file), tmp_path / heads, refitted.context())
        resolved = tmp_path / heads / "recipe.yaml"
        assert ("heads:" in resolved.read_text()) == is_written
        assert read_recipe(resolved).heads == heads
    plain = tmp_path / "plain.yaml"
    plain.write_text(
        json.dumps({"method": "average", "models": [{"model": "here", "task": "rte"}]})
    )
    assert read_recipe(plain).heads == "own"


def test_heads_that_rot_are_fitted_again(refitted):
    record = record_of(refitted, "refit")
    flip(object_of(refitted.store, record.outputs["heads"].md5))
    step = step_of(refitted, "refit")
    before = step.derive(refitted.store, refitted.context())
    assert before.backbone
    assert "is corrupt; computing it again" in refitted.warnings[0]
    assert record_of(refitted, "refit").outputs == record.outputs


def test_other_examples_are_other_heads_of_the_same_backbone(refitted):
    refitted.say("refit", samples=16)
    assert refitted.computed() == {"fisher": 3, "merge": 1, "evaluate": 1}
    refitted.say("merge", heads="own")
    assert refitted.computed() == {}


TEXT = [f"the film was {word} and {other}" for word in ("good", "bad") for other in ["it", "was"]]


def test_any_text_refits_heads_without_the_data_of_their_tasks(refitted):
    refitted.say("refit", samples=16, text=TEXT * 4)
    assert refitted.computed() == {"fisher": 3, "merge": 1, "evaluate": 1}
    inputs = record_of(refitted, "refit").inputs["heads"]["refit"]
    state = refitted.store.get("fisher", inputs["sst2"])
    assert state.names["data"] == "16 sentences"
    catalog = Catalog(refitted.store)
    assert catalog.refit(catalog[step_of(refitted, "refit").key])["text"] == "16 sentences"
    refitted.say("refit", text=TEXT * 3)
    assert refitted.computed() == {"fisher": 3, "merge": 1, "evaluate": 1}, "its text is in the key"


def test_checkpoints_alone_and_a_text_file_are_merged_with_refitted_heads(lab, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    models = [{"model": str(lab.world.model(task))} for task in PAIR]
    content = {"method": "average", "models": models, "heads": "refit"}
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps({**content, "refit": {"text": str(tmp_path / "text.txt")}}))
    merge_recipe(read_recipe(file), tmp_path / "merged", lab.context())
    before = open_checkpoint(lab.world.model("rte")).tensors
    after = open_checkpoint(tmp_path / "merged" / "rte").tensors
    assert any(not np.array_equal(before[name], after[name]) for name in POOLER)
    file.write_text(json.dumps(content))
    with pytest.raises(ParamsError, match="which task is it for"):
        merge_recipe(read_recipe(file), tmp_path / "again", lab.context())
    assert not (tmp_path / "again").exists()


def test_heads_of_no_kind_are_refused(lab):
    lab.say("merge", heads="shared")
    with pytest.raises(ParamsError, match=r"merge\.heads.*'merged', 'own' or 'refit'"):
        _ = lab.params
