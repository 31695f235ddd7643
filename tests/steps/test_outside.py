"""A statistic and a rule from one file outside, that of the tutorial, go the whole way.

They come by entry points, as those of any package do; nothing in fmn names them.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import fmn as fmn_package
from fmn import merging, statistics
from fmn.checkpoint import open_checkpoint, read
from fmn.errors import FisherError
from fmn.fisher import PlainEstimate
from fmn.statistics import get_statistic
from fmn.store import Store, open_store
from fmn.testing import RuleSuite, StatisticSuite
from tests.cli.conftest import fmn, refused, succeeded
from tests.docs.blocks import ROOT, blocks
from tests.steps.conftest import object_of
from tests.steps.world import World, files

TUTORIAL = ROOT / "docs" / "tutorials" / "extending.md"
FILE = re.compile(r"cat > house/moments\.py <<'END'\n(.*)\nEND\n", re.DOTALL)
BOTH = '''

def by_both(part):
    """Weight by both: what goes through a column, and the node that governs the parameter."""
    pairs = zip(*part.statistics.values(), strict=True)
    return weighted_mean(part.tensors, [one * other for one, other in pairs], part.weights)


BOTH = Rule("both", "weighted by moments and nodes", "", by_both, ("input-moments", "mask-fisher"))
'''
ENTRY_POINTS = """[fmn.statistics]
input-moments = moments:INPUT_MOMENTS
[fmn.rules]
by-moments = moments:BY_MOMENTS
both = moments:BOTH
"""
SWEEP = {"method": "by-moments", "parameters": {"power": [0.5, 2.0]}}


@contextmanager
def installed(*places: Path) -> Iterator[None]:
    """Let registries read entry points anew, with packages in these directories or without any."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in (statistics._STATISTICS, merging.rules._RULES):
            ours = {
                name: item
                for name, item in registry._items.items()
                if name not in ("input-moments", "by-moments", "both")
            }
            patch.setattr(registry, "_items", ours)
            patch.setattr(registry, "_complete", False)
        patch.setattr(sys, "path", [each for each in sys.path if "outside" not in each])
        for place in places:
            patch.syspath_prepend(place)
        yield


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, as pip would install it."""
    site = tmp_path_factory.mktemp("outside")
    (match,) = filter(None, (FILE.search(block.text) for block in blocks(TUTORIAL)))
    (site / "moments.py").write_text(match[1] + BOTH)
    (site / "house-1.dist-info").mkdir()
    (site / "house-1.dist-info" / "METADATA").write_text("Name: house\nVersion: 1\n")
    (site / "house-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    with installed(site):
        yield site
    sys.modules.pop("moments", None)


@pytest.fixture(scope="module")
def ran(package: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo that was run by these rules, with models of its own."""
    folder = tmp_path_factory.mktemp("ran")
    shutil.copytree(world.root, folder / "world")
    here = World(folder / "world")
    entries = [{"model": str(here.model(task)), "task": task} for task in ("sst2", "rte")]
    merge = {"methods": [SWEEP, "both"]}
    params = here.params(folder / "params.yaml", models=entries, merge=merge)
    succeeded(fmn("run", params))
    return folder


@pytest.fixture
def store(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of its store, which the environment names."""
    place = shutil.copytree(ran / "store", tmp_path / "store")
    monkeypatch.setenv("FMN_STORE", str(place))
    monkeypatch.chdir(tmp_path)
    return open_store(place, cache=tmp_path / "cache")


def merges(store: Store, method: str) -> list[dict]:
    listed = json.loads(succeeded(fmn("catalog", "ls", "--json")).stdout)
    return [entry for entry in listed if entry["method"] == method]


def moments_of(store: Store) -> dict:
    """Return its records by name of the model."""
    records = [record for record in store.all("fisher").values() if record]
    return {r.names["name"]: r for r in records if r.inputs["of"] == "input-moments"}


class TestStatistic(StatisticSuite):
    @pytest.fixture(autouse=True)
    def _statistic(self, package):
        self.statistic = get_statistic("input-moments")


class TestRule(RuleSuite):
    @pytest.fixture(autouse=True)
    def _rule(self, package):
        self.rule = merging.get_rule("by-moments")


def test_it_is_the_diagonal_of_the_gram_matrices(package, world):
    model, suite = world.load("rte"), TestStatistic()
    batch = suite.examples() | {"input_ids": suite.examples()["input_ids"] % 32}
    batch["labels"] = batch["labels"] % 2
    ours = get_statistic("input-moments").compute()(model, [batch]).values
    grams = fmn_package.gram_matrices(model, [batch]).matrices
    positions = batch["input_ids"].numel() / len(batch["input_ids"])
    assert len(ours) == 4
    for name, moments in ours.items():
        torch.testing.assert_close(moments, grams[name].diagonal() / positions)


def test_in_python_it_is_saved_loaded_and_merged_with(package, world, tmp_path):
    batch = {"input_ids": torch.arange(2, 12)[None], "labels": torch.tensor([1])}
    compute, models = get_statistic("input-moments").compute(), {}
    estimates = {}
    for task in ("sst2", "rte"):
        models[task] = world.load(task)
        estimates[task] = compute(models[task], [batch])
        estimates[task].save(tmp_path / task)
    loaded = {task: PlainEstimate.load(tmp_path / task) for task in models}
    for task, estimate in estimates.items():
        assert loaded[task].metadata() == estimate.metadata()
        assert loaded[task].measurement().digest == estimate.measurement().digest
    both = [
        fmn_package.merge(models, method="by-moments", fishers=each, power=2.0)["rte"].state_dict()
        for each in (estimates, loaded)
    ]
    assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())
    plain = fmn_package.merge(models, method="by-moments", fishers=loaded, power=0)["rte"]
    mean = fmn_package.merge(models, method="average")["rte"].state_dict()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, mean[name])
    with pytest.raises(FisherError, match="is not a mask-fisher of format 1"):
        fmn_package.MaskFisher.load(tmp_path / "rte")


def test_the_merge_is_the_formula_with_the_rules_parameter(store, ran):
    entries = {entry["parameters"]["power"]: entry for entry in merges(store, "by-moments")}
    succeeded(fmn("catalog", "get", entries[2.0]["id"], "two"))
    world, name = World(ran / "world"), "encoder.layer.1.output.dense.weight"
    records = moments_of(store)
    columns = [
        read(store.path(records[task].outputs["fisher"]))[0][name].astype(np.float64) ** 2.0
        for task in ("sst2", "rte")
    ]
    one, other = (open_checkpoint(world.model(task)).tensors for task in ("sst2", "rte"))
    merged = open_checkpoint("two/rte").tensors
    expected = (columns[0] * one[f"bert.{name}"] + columns[1] * other[f"bert.{name}"]) / sum(
        columns
    )
    np.testing.assert_allclose(merged[f"bert.{name}"], expected, atol=1e-6)
    query = "bert.encoder.layer.1.attention.self.query.weight"
    np.testing.assert_allclose(merged[query], (one[query] + other[query]) / 2, atol=1e-6)
    card = Path("two/README.md").read_text()
    assert "columns of output projections weighted by the second moments" in card
    assert yaml.safe_load(Path("two/recipe.yaml").read_text())["parameters"]["power"] == 2.0


def test_it_is_computed_once_and_then_found(store, ran, tmp_path, monkeypatch):
    before = store.all()
    assert {record.inputs["of"] for record in moments_of(store).values()} == {"input-moments"}
    monkeypatch.setattr("moments.input_moments", lambda *a, **k: pytest.fail("computed again"))
    world = World(ran / "world")
    options = ("--task", "rte", "--data", world.data, "--samples", 16, "--kind", "input-moments")
    output = succeeded(
        fmn("fisher", world.model("rte"), *options, "--store", store.url, "--out", "moments")
    ).stdout
    assert "second moments of inputs of" in output and "from the store" in output
    settings = {"models": {"rte": {"fisher": "moments"}}}
    for name, more in (("merged", {}), ("of-a-file", settings)):
        recipe = world.recipe(tmp_path / f"{name}.yaml", method="by-moments", **more)
        succeeded(fmn("merge", recipe, "--store", store.url, "--out", name))
    assert open_checkpoint("of-a-file/rte").digest() == open_checkpoint("merged/rte").digest()
    recipe = world.recipe(tmp_path / "mask.yaml", method="mask-fisher", **settings)
    message = r"needs a mask Fisher \(mask-fisher\), this is a input-moments"
    refused(fmn("merge", recipe, "--store", store.url, "--out", "no"), message)
    refused(fmn("inspect", "moments"), "its kind is 'input-moments'")
    params = yaml.safe_load((ran / "params.yaml").read_text()) | {"store": store.url}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert "computed nothing" in succeeded(fmn("run", "params.yaml")).stdout
    assert store.all() == before


def test_the_plan_knows_its_bytes_and_why(store, ran):
    params = yaml.safe_load((ran / "params.yaml").read_text()) | {"store": "empty"}
    params["merge"]["methods"] = [SWEEP]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    plan = json.loads(succeeded(fmn("plan", "--json", "params.yaml")).stdout)
    assert plan["new_bytes"] == 2 * 4 * 2 * (16 + 24)  # models, bytes, layers, inputs
    assert plan["steps"]["fisher"]["to_compute"] == 2
    params |= {"store": store.url}
    params["merge"]["methods"] = [{"method": "by-moments", "parameters": {"power": [0.5, 3.0]}}]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    steps = json.loads(succeeded(fmn("plan", "--json", "params.yaml")).stdout)["steps"]
    assert (steps["fisher"]["to_compute"], steps["merge"]["to_compute"]) == (0, 1)
    assert list(steps["merge"]["reasons"]) == ["method by-moments, power 3 is new"]
    params["fisher"] = {"samples": 8}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    steps = json.loads(succeeded(fmn("plan", "--json", "params.yaml")).stdout)["steps"]
    assert (steps["fisher"]["to_compute"], steps["merge"]["to_compute"]) == (2, 2)


def test_a_merges_record_has_the_keys_of_its_statistics_and_the_parameter(store):
    records = moments_of(store)
    entries = merges(store, "by-moments")
    assert sorted(entry["parameters"]["power"] for entry in entries) == [0.5, 2.0]
    for entry in entries:
        for name, model in entry["models"].items():
            assert model["statistics"] == [records[name].key]
    (both,) = merges(store, "both")
    for name, model in both["models"].items():
        first, second = (store.get("fisher", key).inputs["of"] for key in model["statistics"])
        assert (first, second) == ("input-moments", "mask-fisher")
        assert model["statistics"][0] == records[name].key


@pytest.mark.parametrize("method", ["by-moments", "both"])
def test_every_statistic_of_a_merge_is_shown_and_it_verifies(store, method):
    for entry in merges(store, method):
        shown = succeeded(fmn("catalog", "show", entry["id"])).stdout
        assert "second moments of inputs" in shown
        assert ("mask Fisher" in shown) is (method == "both")
        lineage = json.loads(succeeded(fmn("catalog", "show", "--json", entry["id"])).stdout)
        assert {
            record["inputs"]["of"]
            for each in lineage["statistics"].values()
            for record in each.values()
        } == {"input-moments"} | ({"mask-fisher"} if method == "both" else set())
        assert "the same weights" in succeeded(fmn("catalog", "verify", entry["id"])).stdout
    assert "second moments of inputs of rte" in succeeded(fmn("store", "ls")).stdout


def test_it_lies_beside_its_model_and_serves_there(store, ran, tmp_path):
    world = World(shutil.copytree(ran / "world", tmp_path / "world"))
    for task in ("sst2", "rte"):
        model = world.model(task)
        output = succeeded(
            fmn("fisher", "push", model, "--kind", "input-moments", "--store", store.url)
        ).stdout
        assert "second moments of inputs" in output
        assert (model / "fisher" / f"input-moments.{task}.safetensors").is_file()
    output = succeeded(
        fmn("fisher", "pull", model, "--kind", "input-moments", "--store", tmp_path / "theirs")
    ).stdout
    assert moments_of(store)["rte"].key[:12] in output
    recipe = world.recipe(tmp_path / "recipe.yaml", method="by-moments")
    shutil.rmtree(world.data)
    succeeded(fmn("merge", recipe, "--out", tmp_path / "merged"))


def test_the_stages_of_dvc_take_it(store, ran):
    params = yaml.safe_load((ran / "params.yaml").read_text()) | {"store": store.url}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    succeeded(fmn("stage", "inputs", "--out-dir", "inputs"))
    succeeded(fmn("stage", "fisher", "inputs/model0.json", "--out", "fishers/model0"))
    assert sorted(files(Path("fishers/model0"))) == [
        "sst2.input-moments.safetensors",
        "sst2.mask-fisher.safetensors",
    ]


def test_the_report_has_its_merges_and_the_nodes_of_every_mask_fisher(store):
    from fmn.catalog import Catalog
    from fmn.report.collect import read_report

    report = read_report(Catalog(store))
    assert {merge.method for merge in report.merges} == {"by-moments", "both"}
    assert len(report.fishers) == 2  # of both; part of a rule's statistics, not the first
    drawn = {fisher.key for fisher in report.fishers}
    for merge in report.merges:
        title = "mask Fisher" if merge.method == "both" else "second moments of inputs"
        for member in merge.members:
            assert (member.statistic, member.fisher in drawn) == (title, merge.method == "both")
    succeeded(fmn("report", "--out", "report"))
    assert Path("report/index.html").is_file()


def test_there_is_no_picture_of_it(store):
    record = moments_of(store)["rte"]
    output = refused(fmn("inspect", record.key[:12]), "second moments of inputs")
    assert "mask Fisher" in output


def test_help_has_it(package):
    assert "second moments of inputs" in succeeded(fmn("fisher", "compute", "--help")).stdout


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"power": 5}, "parameters: power: 5 is impossible; expected a number from 0 to 4"),
        ({"powers": 1}, "unknown parameter of by-moments 'powers'; did you mean 'power'"),
    ],
)
def test_a_wrong_parameter_is_refused_in_its_own_words(
    package, world, tmp_path, parameters, message
):
    recipe = world.recipe(tmp_path / "recipe.yaml", method="by-moments", parameters=parameters)
    refused(fmn("merge", recipe, "--out", tmp_path / "merged"), message)


def test_a_rule_that_needs_both_is_merged_by_hand_as_in_the_zoo(store, ran, tmp_path):
    """Its recipe, taken from the catalog, says the settings of both statistics."""
    (both,) = merges(store, "both")
    succeeded(fmn("catalog", "get", both["id"], "got"))
    recipe = yaml.safe_load(Path("got/recipe.yaml").read_text())
    assert recipe["fisher"]["samples"] == 16 and recipe["fisher"]["labels"] == "true"
    card = Path("got/README.md").read_text().split("```yaml\n")[1].split("```")[0]
    Path("card.yaml").write_text(card)
    for number, file in enumerate(("got/recipe.yaml", "card.yaml")):
        succeeded(fmn("merge", file, "--out", f"again{number}"))
        for task in ("sst2", "rte"):
            again = open_checkpoint(f"again{number}/{task}")
            assert again.digest() == open_checkpoint(f"got/{task}").digest()


class TestNotInstalled:
    """A store of colleagues who have the package, where it is not installed."""

    @pytest.fixture(autouse=True)
    def _gone(self, store):
        self.merge = merges(store, "by-moments")[0]["id"][:8]
        self.record = moments_of(store)["rte"]
        with installed():
            yield

    def test_what_is_there_is_still_listed(self, store):
        assert "input-moments of rte" in succeeded(fmn("store", "ls")).stdout
        assert "by-moments" in succeeded(fmn("catalog", "ls")).stdout
        shown = succeeded(fmn("catalog", "show", self.merge)).stdout
        assert "input-moments" in shown and "power" in shown
        succeeded(fmn("report", "--out", "report"))
        assert "by-moments" in Path("report/index.html").read_text()
        succeeded(fmn("store", "verify"))
        object_of(store, self.record.outputs["fisher"].md5).unlink()
        result = fmn("store", "verify")
        assert result.exit_code == 1
        assert "--kind input-moments" in result.stdout

    @pytest.mark.parametrize("command", ["verify", "get"])
    def test_a_merge_says_which_rule_is_missing(self, store, command):
        out = ("out",) if command == "get" else ()
        refused(fmn("catalog", command, self.merge, *out), "unknown merge method 'by-moments'")

    def test_commands_say_that_there_is_no_such_statistic(self, store, world):
        options = ("--task", "rte", "--data", world.data, "--kind", "input-moments")
        message = "unknown statistic 'input-moments'.*mask-fisher"
        refused(fmn("fisher", world.model("rte"), *options, "--out", "moments"), message)
        refused(fmn("inspect", self.record.key[:12]), "is of input-moments, of which there is no")

    def test_a_rule_without_its_statistic_is_refused(self, world, tmp_path, monkeypatch):
        monkeypatch.setattr(
            merging.rules._RULES,
            "_items",
            {**merging.rules._RULES._items, "lonely": lonely()},
        )
        recipe = world.recipe(tmp_path / "recipe.yaml", method="lonely")
        message = (
            "method lonely needs what no package here brings: unknown statistic 'input-moments'"
        )
        refused(fmn("merge", recipe, "--out", tmp_path / "merged"), message)
        params = world.params(tmp_path / "params.yaml", merge={"methods": ["lonely"]})
        refused(fmn("plan", params), message)
        refused(fmn("run", params), message)


def lonely() -> merging.Rule:
    """Return a rule whose statistic nobody here has."""
    return merging.Rule("lonely", "x", "", merging.by_weight, ("input-moments",))
