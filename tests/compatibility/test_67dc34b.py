"""What commit 67dc34b wrote is read, found, verified and derived again, byte for byte."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from fmn.catalog import Catalog
from fmn.errors import FmnError
from fmn.params import read_params
from fmn.recipe import read_recipe
from fmn.steps.context import Context
from fmn.steps.recipe import merge_recipe
from fmn.steps.rederive import get_merge, verify_merge, verify_scores
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store, verify
from tests.compatibility.write import METHODS, RECIPES, ZOOS, digests
from tests.steps.conftest import Notes

ARCHIVE = Path(__file__).with_name("67dc34b.tar.gz")
ROUNDED = ("regmean",)
"""Methods whose last bits are those of a kind of processor."""


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Unpack it, and be there; its paths are relative."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMN_CACHE", str(tmp_path / "cache"))
    return json.loads(Path("expected.json").read_text())


def store_files():
    paths = (path for path in Path("store").rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ZOOS)
def test_a_run_finds_everything_and_writes_nothing(old, name):
    context = Context(device="cpu", report=Notes())
    before = store_files()
    params = read_params(Path(f"{name}.yaml"))
    merge = params.merge.model_copy(update={"heads": ("merged",)})  # all that there was then
    graph = Graph(open_zoo(params.model_copy(update={"merge": merge}), context.memo))
    tally = run_zoo(graph, opened(), context)
    assert tally.is_hit, tally.in_words()
    assert tally.cached["merge"] == (30 if name == "pairs" else 3)
    assert store_files() == before


def opened():
    return open_store("store", warn=pytest.fail)


def test_the_catalog_shows_what_it_showed(old):
    catalog = Catalog(opened())
    assert len(catalog.entries) == 32  # of 33 one is hidden
    assert {entry.method for entry in catalog.entries.values()} == set(METHODS)
    assert catalog["candidate"].id == old["candidate"]
    assert old["hidden"] not in catalog.entries
    assert all(entry.mean() is not None for entry in catalog.entries.values())
    weighted = next(e for e in catalog.entries.values() if len(e.parts) == 3 and e.method == "ties")
    assert weighted.parameters == {"scale": 1.0, "density": 0.5, "dtype": "same"}
    assert weighted.parts["rte"].weight == 0.5


def test_every_object_is_whole_and_every_merge_is_derived_again(old):
    assert not list(verify(opened()))
    catalog, context = Catalog(opened()), Context(device="cpu", report=Notes())
    for entry in catalog.entries.values():
        if entry.method not in ROUNDED:
            assert verify_merge(catalog, entry, context) == entry.record.value["backbone"]


def test_scores_and_a_directory_come_out_again(old):
    catalog, context = Catalog(opened()), Context(device="cpu", report=Notes())
    assert not verify_scores(catalog, catalog["candidate"], context)
    get_merge(catalog, "candidate", "taken", context)
    kept = next(entry for entry in catalog.entries.values() if entry.kept)
    get_merge(catalog, kept.id, "kept", context)
    assert Path("taken/recipe.yaml").is_file() and Path("kept/README.md").is_file()


@pytest.mark.parametrize("kind", ["recipe", "resolved"])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_give_the_same_bytes(old, name, kind):
    context = Context(device="cpu", report=Notes())
    recipe = read_recipe(Path(f"{name}.{kind}.yaml"))
    if kind == "recipe":
        recipe = recipe.model_copy(update={"heads": "merged"})  # all that there was then
    assert recipe.heads == "merged"
    merge_recipe(recipe, Path("merged"), context, opened())
    assert digests(Path("merged")) == old["merged"][name]


def test_a_published_fisher_serves_without_data(old):
    Path("world/data").rename("elsewhere")
    recipe = read_recipe(Path("mask.recipe.yaml"))
    alone = recipe.model_copy(update={"models": recipe.models[-1:]})
    merge_recipe(alone, Path("merged"), Context(device="cpu", report=Notes()))
    with pytest.raises(FmnError):
        merge_recipe(recipe, Path("all"), Context(device="cpu", report=Notes()))
