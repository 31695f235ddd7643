"""Layers of a merge fitted to what its models say: the method ``layerwise``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fmn.catalog import Catalog
from fmn.checkpoint import open_checkpoint
from fmn.errors import MergeError, ParamsError
from fmn.fisher.session import describe
from fmn.layerwise import Calibrated
from fmn.merging import Parameter, Rule, by_weight, get_rule, rules
from fmn.recipe import read_recipe
from fmn.steps.layers import difference, sketch
from fmn.steps.merge import PublishStep
from fmn.steps.recipe import merge_recipe, plan_recipe
from fmn.steps.rederive import get_merge, verify_merge, verify_scores
from fmn.store import Draft
from tests.steps.conftest import lab_of, make_lab, reference

PAIR = ("sst2", "rte")
STARTS = ["average", {"method": "mask-fisher", "parameters": {"normalize": "mean"}}]
LAYERS = {
    "merge": {
        "methods": ["average", {"method": "layerwise", "parameters": {"start": STARTS}}],
        "combinations": [list(PAIR)],
        "heads": ["own", "refit"],
    },
    "refit": {"samples": 24},
}
FITTED = "layerwise, start average, heads own"
QUERY = "bert.encoder.layer.0.attention.self.query.weight"
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"


@pytest.fixture(scope="session")
def fitted_once(world, once):
    """A pair by averaging, and with its layers fitted; it is to stay as it is."""

    def run(folder):
        # head states, mask Fishers; of 3 models; 3 backbones, 2 kinds of heads
        assert make_lab(folder, world, **LAYERS).computed() == {
            "fisher": 6,
            "merge": 6,
            "evaluate": 9,
        }

    return lab_of(once.directory("layers", run), **LAYERS)


@pytest.fixture
def fitted(fitted_once, world, tmp_path):
    shutil.copytree(fitted_once.folder / "store", tmp_path / "store")
    return make_lab(tmp_path, world, **LAYERS)


def step_of(lab, label):
    return lab.open().step(reference("merge", *PAIR, label))


def record_of(lab, label):
    return lab.store.get("merge", step_of(lab, label).key)


def test_layers_are_others_than_the_start_s_and_heads_share_them(fitted):
    start, own, refit = (
        record_of(fitted, label)
        for label in ("average, heads own", FITTED, "layerwise, start average, heads refit")
    )
    assert own.value["backbone"] == refit.value["backbone"] != start.value["backbone"]
    assert own.inputs["layers"]["fitted"].keys() == set(PAIR)
    assert own.value["layers"]["arithmetic"] == "cpu"
    assert own.inputs["start"] == "average"
    context = fitted.context()
    fitted_, average = (
        step_of(fitted, label).derive(fitted.store, context).backbone
        for label in (FITTED, "average, heads own")
    )
    assert not np.array_equal(fitted_[QUERY], average[QUERY])
    np.testing.assert_array_equal(fitted_[EMBEDDINGS], average[EMBEDDINGS])


def test_the_start_of_a_start_s_parameters_is_in_key_and_label(fitted):
    label = "layerwise, start mask-fisher (normalize mean), heads own"
    record = record_of(fitted, label)
    assert record.inputs["start"] == {"method": "mask-fisher", "parameters": {"normalize": "mean"}}
    assert len(record.inputs["models"][0]) == 5  # name, identity, λ, mask Fisher, head states
    assert step_of(fitted, label).key != step_of(fitted, FITTED).key


def test_a_layerwise_merge_says_more_of_what_its_models_say(fitted):
    """By the states that heads read, of examples that no layer was fitted to."""
    context, errors = fitted.context(), {}
    for label in ("average, heads own", FITTED):
        merged, errors[label] = step_of(fitted, label).derive(fitted.store, context), 0.0
        for member in step_of(fitted, FITTED).members:
            states = member.statistics["head-states"]
            others = replace(states, settings=states.settings.model_copy(update={"seed": 7}))
            own = context.model(states.checkpoint)
            body = merged.put_into(context.body(states.checkpoint))
            said, wanted = (others.read_head(context, each).outputs for each in (body, own))
            errors[label] += float(((said - wanted) ** 2).mean())
    assert errors[FITTED] < errors["average, heads own"]


def test_it_is_taken_home_verified_and_measured_again(fitted, tmp_path):
    catalog = Catalog(fitted.store)
    entry = catalog[step_of(fitted, FITTED).key]
    assert entry.parameters["start"] == "average"
    get_merge(catalog, entry.id, tmp_path / "taken", fitted.context())
    merged = step_of(fitted, FITTED).derive(fitted.store, fitted.context()).backbone
    taken = open_checkpoint(tmp_path / "taken" / "sst2").tensors
    np.testing.assert_array_equal(taken[QUERY], merged[QUERY])
    assert verify_merge(catalog, entry, fitted.context()) == entry.record.value["backbone"]
    assert verify_scores(catalog, entry, fitted.context()) == []
    recipe = read_recipe(tmp_path / "taken" / "recipe.yaml")
    assert recipe.method == "layerwise"
    assert recipe.refit.samples == 24
    merge_recipe(recipe, tmp_path / "again", fitted.context())
    again = open_checkpoint(tmp_path / "again" / "sst2").tensors
    np.testing.assert_array_equal(again[QUERY], merged[QUERY])


def test_the_order_of_models_changes_no_byte(world, tmp_path, context):
    for number, tasks in enumerate((PAIR, PAIR[::-1])):
        recipe = world.recipe(
            tmp_path / f"{number}.yaml",
            tasks,
            method="layerwise",
            parameters={"start": "average"},
            refit={"samples": 12},
        )
        merge_recipe(read_recipe(recipe), tmp_path / str(number), context)
    one, other = (open_checkpoint(tmp_path / number / "rte").tensors for number in "01")
    assert {name: tensor.tobytes() for name, tensor in one.items()} == {
        name: tensor.tobytes() for name, tensor in other.items()
    }


def test_last_bits_of_another_machine_are_no_other_merge(fitted, tmp_path):
    """As a GPU, or other threads, would add up: what is more is refused."""
    record = record_of(fitted, FITTED)
    for size, same in ((1e-7, True), (1e-2, False)):
        value = json.loads(json.dumps(record.value))
        value["backbone"] = "0" * 64
        value["layers"] |= {
            "arithmetic": "cuda",
            "sketch": [each + size for each in value["layers"]["sketch"]],
        }
        lab = fitted
        lab.store.replace(record, Draft(value=value, read=record.read))
        if same:
            step_of(lab, FITTED).derive(lab.store, lab.context())
            assert "derived on cpu, recorded on cuda" in lab.warnings[-1]
            PublishStep(step_of(lab, FITTED)).run(lab.store, lab.context())
            lab.warnings.clear()
            catalog = Catalog(lab.store)
            entry = catalog[record.key]
            assert entry.kept
            get_merge(catalog, entry.id, tmp_path / "taken", lab.context())
            assert lab.warnings == []  # what is kept counts as whole
            verify_merge(catalog, entry, lab.context())
        else:
            with pytest.raises(MergeError, match="but its record says 000000000000"):
                step_of(lab, FITTED).derive(lab.store, lab.context())


def test_a_sketch_tells_how_alike_tensors_are():
    generator = np.random.default_rng(0)
    tensors = {str(n): generator.normal(size=(50, 40)) for n in range(20)}
    for size in (1e-6, 1e-3):
        noise = {n: each + size * generator.normal(size=each.shape) for n, each in tensors.items()}
        apart = difference(sketch(tensors), sketch(noise))
        assert apart == pytest.approx(size * np.sqrt(20), rel=0.6)
    assert difference(sketch(tensors), sketch(tensors)) == 0


def test_examples_that_changed_are_said(fitted, tmp_path):
    catalog = Catalog(fitted.store)
    entry = catalog[step_of(fitted, FITTED).key]
    data = shutil.copytree(fitted.world.data, tmp_path / "data")
    train, validation = (data / "sst2" / f"{split}.parquet" for split in ("train", "validation"))
    train.write_bytes(validation.read_bytes())
    with pytest.raises(MergeError, match="other examples of sst2 than the layers were fitted to"):
        get_merge(catalog, entry.id, tmp_path / "no", fitted.context(), data=str(data))
    assert not (tmp_path / "no").exists()
    shutil.copytree(fitted.world.data, data, dirs_exist_ok=True)
    get_merge(catalog, entry.id, tmp_path / "taken", fitted.context(), data=str(data))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("avrage", "did you mean 'average'"),
        ("layerwise", "start: layerwise begins with another method itself"),
        ({"parameters": {}}, "expected the name of a method, or a mapping"),
        (3, "start: 3 is impossible"),
        ({"method": "average", "parameters": {"scale": 2}}, "average has no parameter scale"),
        ({"method": "ties", "parameters": {"density": 7}}, "density: 7 is impossible"),
    ],
)
def test_a_start_that_is_none_is_refused(start, message):
    with pytest.raises(ParamsError, match=message):
        get_rule("layerwise").given({"start": start})


def test_a_rule_needs_what_its_start_needs():
    rule = get_rule("layerwise")
    assert rule.given({}).parent
    average = rule.given({"start": "average"})
    assert not average.parent
    assert average.statistics == ("head-states",)
    assert rule.given({"start": "regmean"}).statistics == ("gram", "head-states")
    assert rule.given({"start": "slerp"}).models == 2


def shifted(experts, settings, *, progress):
    """A calibration from outside."""
    query = describe(experts[0].merged).parameters[QUERY.removeprefix("bert.")]
    progress(1)
    return Calibrated({QUERY.removeprefix("bert."): query.data + settings["by"]}, 1.0, {})


def test_a_rule_from_outside_has_a_calibration_of_its_own(world, tmp_path, monkeypatch):
    monkeypatch.setattr(rules._RULES, "_items", {**rules._RULES._items})
    rule = Rule(
        "shifting",
        "the mean, shifted",
        "",
        by_weight,
        ("head-states",),
        parameters=(Parameter("by", 0.5, "so far"),),
        calibration=f"{__name__}:shifted",
    )
    rules.register_rule(rule)
    lab = make_lab(
        tmp_path,
        world,
        merge={"methods": ["average", "shifting"], "combinations": [list(PAIR)], "heads": ["own"]},
        refit={"samples": 8},
    )
    lab.run()
    merged, average = (
        step_of(lab, label).derive(lab.store, lab.context()).backbone[QUERY]
        for label in ("shifting", "average")
    )
    np.testing.assert_allclose(merged, average + 0.5, rtol=1e-6)
    broken = replace(rule, name="absent", calibration=f"{__name__}:nothing")
    rules.register_rule(broken)
    recipe = read_recipe(
        world.recipe(tmp_path / "recipe.yaml", method="absent", refit={"samples": 8})
    )
    with pytest.raises(ParamsError, match=r"what fits its layers, .+ cannot be imported"):
        merge_recipe(recipe, tmp_path / "out", lab.context())
    assert not (tmp_path / "out").exists()


def test_a_number_or_auto():
    for value in ("auto", 0, 0.5, "1e-2"):
        get_rule("layerwise").settings({"ridge": value})
    with pytest.raises(ParamsError, match="expected auto, or a number from 0"):
        get_rule("layerwise").settings({"ridge": -1})
    with pytest.raises(ParamsError, match="expected auto, or a number from 0"):
        get_rule("layerwise").settings({"ridge": "much"})


def test_python_says_where_it_can_be_had(world):
    import fmn

    with pytest.raises(ParamsError, match="layerwise needs examples"):
        fmn.merge({task: world.model(task) for task in PAIR}, method="layerwise", start="average")
    recipe = read_recipe(world.recipe(world.root / "layers.yaml", method="layerwise"))
    with pytest.raises(MergeError, match="needs the parent of the models"):
        plan_recipe(recipe, None)
