"""The catalog on the command line."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from fmn.store import open_store
from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.conftest import flip


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """A zoo that was run where it is: its records name models and data that this module has for
    itself."""
    folder = tmp_path_factory.mktemp("ran")
    shutil.copytree(world.root, folder / "world")
    entries = [
        {"model": str(folder / "world" / task), "task": task} for task in ("sst2", "rte", "mnli")
    ]
    merge = {"sizes": [2], "methods": ["average", "mask-fisher"]}
    succeeded(fmn("run", world.params(folder / "params.yaml", models=entries, merge=merge)))
    return folder


@pytest.fixture
def store(ran, tmp_path, monkeypatch):
    """A copy of its store, which the environment names."""
    place = Path(shutil.copytree(ran / "store", tmp_path / "store"))
    monkeypatch.setenv("FMN_STORE", str(place))
    monkeypatch.chdir(tmp_path)
    return place


def listed(*options):
    return json.loads(succeeded(fmn("catalog", "ls", "--json", *options)).stdout)


def one(tasks=("rte", "sst2"), method="mask-fisher"):
    return next(
        entry
        for entry in listed()
        if sorted(entry["models"]) == sorted(tasks) and entry["method"] == method
    )


def test_ls_lists_the_best_first(store):
    output = succeeded(fmn("catalog", "ls")).stdout
    assert "6 of 6 merges; scores in %" in output
    assert "rte + sst2" in output
    means = [entry["mean"] for entry in listed()]
    assert means == sorted(means, reverse=True)
    worst = [entry["worst"] for entry in listed("--sort", "worst")]
    assert worst == sorted(worst, reverse=True)
    scores = [entry["scores"].get("mnli", {}).get("accuracy") for entry in listed("--sort", "mnli")]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert scores[4:] == [None, None]


def test_ls_filters(store, ran):
    assert {entry["method"] for entry in listed("--method", "average")} == {"average"}
    assert all({"rte", "mnli"} <= set(entry["models"]) for entry in listed("--tasks", "rte,mnli"))
    assert len(listed("--models", str(ran / "world" / "rte"), "--limit", 3)) == 3
    assert listed("--since", "1h", "--by", "nobody") == []
    assert "no such merge" in succeeded(fmn("catalog", "ls", "--by", "nobody")).stdout
    refused(fmn("catalog", "ls", "--tasks", "rte,mnil"), "unknown task 'mnil'; did you mean 'mnli'")
    refused(fmn("catalog", "ls", "--sort", "best"), "unknown order 'best'")
    refused(fmn("catalog", "ls", "--since", "soon"), "'soon' is not a time")
    refused(fmn("catalog", "ls", "--json", "--csv"), "--json or --csv, not both")


def test_ls_has_the_columns_that_are_chosen_in_their_order(store):
    output = succeeded(fmn("catalog", "ls", "--csv", "--columns", "mean,id,rte,by")).stdout
    rows = list(csv.DictReader(io.StringIO(output)))
    assert list(rows[0]) == ["mean", "id", "rte", "by"]
    assert float(rows[0]["mean"]) == pytest.approx(100 * listed()[0]["mean"], abs=0.006)
    refused(
        fmn("catalog", "ls", "--columns", "help"),
        r"unknown column 'help'.*known: at, by, .*mean.*rte",
    )


def test_an_empty_store_says_so(tmp_path):
    assert (
        "no merge has been made yet"
        in succeeded(fmn("catalog", "ls", "--store", tmp_path / "nothing")).stdout
    )


def test_show_tells_where_a_merge_comes_from_and_how_it_was_measured(store, ran):
    entry = one()
    output = succeeded(fmn("catalog", "show", entry["id"][:8])).stdout
    for expected in (
        entry["id"],
        "rte + sst2 by mask-fisher",
        "association paper",
        "samples 16",
        str(ran / "world" / "rte"),
    ):
        assert expected in output
    assert entry["models"]["rte"]["weights"][:12] in output
    score, own = entry["scores"]["rte"]["accuracy"], entry["individual"]["rte"]["accuracy"]
    (row,) = (line for line in output.splitlines() if line.split()[:2] == ["rte", "accuracy"])
    low, high = entry["scores"]["rte"]["interval"]
    assert low <= score <= high
    assert row.split()[2:] == [
        f"{100 * score:.2f}",
        f"[{100 * low:.2f},",
        f"{100 * high:.2f}]",
        f"{100 * entry['scores']['rte']['chance']:.2f}",
        f"{100 * own:.2f}",
        "[100.00,",  # the model is always right
        "100.00]",
        f"{100 * score / own:.1f}",
        "30",
    ]
    described = json.loads(succeeded(fmn("catalog", "show", entry["id"][:8], "--json")).stdout)
    assert set(described["fishers"]) == {"rte", "sst2"}
    low, high = described["mean_interval"]
    assert low <= described["mean"] <= high
    assert (
        f"mean normalised {100 * entry['mean']:.2f}, [{100 * low:.2f}, {100 * high:.2f}]" in output
    )
    assert described["from_individual"]["rte"]["value"] == pytest.approx(score - own)
    refused(fmn("catalog", "show", "0000000"), "no merge '0000000'")
    refused(fmn("catalog", "show", "ab"), "at least four digits")


def test_compare_says_what_differs(store):
    ids = [one(method=method)["id"][:10] for method in ("mask-fisher", "average")]
    output = succeeded(fmn("catalog", "compare", *ids)).stdout
    assert "mask-fisher" in output
    assert "mean normalised" in output
    assert "model of rte" not in output
    comparison = json.loads(succeeded(fmn("catalog", "compare", *ids, "--json")).stdout)
    assert comparison["differences"]["method"] == ["mask-fisher", "average"]
    ((other, apart),) = comparison["from_first"].items()
    assert other.startswith(ids[1])
    assert set(apart) == {*comparison["merges"][other]["scores"], "mean normalised"}
    rows = [line.strip() for line in output.splitlines() if " [" in line]
    for name, each in apart.items():
        (row,) = (line for line in rows if line.startswith(f"{name}  "))
        assert f"{100 * each['value']:+.2f} [" in row
        assert ("inside the interval" in row) == each["inside"]
    refused(fmn("catalog", "compare", ids[0]), "name two merges or more")


def test_best_is_what_ls_has_first(store):
    first = listed("--tasks", "rte,mnli")[0]
    assert (
        succeeded(fmn("catalog", "best", "--tasks", "rte,mnli", "--id")).stdout.strip()
        == first["id"]
    )
    assert (
        json.loads(succeeded(fmn("catalog", "best", "--tasks", "mnli, rte", "--json")).stdout)["id"]
        == first["id"]
    )
    assert first["id"] in succeeded(fmn("catalog", "best", "--tasks", "rte,mnli")).stdout
    average = json.loads(
        succeeded(
            fmn("catalog", "best", "--tasks", "rte,mnli", "--method", "average", "--json")
        ).stdout
    )
    assert average["method"] == "average"
    refused(fmn("catalog", "best", "--tasks", "rte,cola"), "unknown task 'cola'")


def test_get_tag_verify_and_rm(store, tmp_path):
    entry = one()
    output = succeeded(fmn("catalog", "tag", "prod", entry["id"][:8])).stdout
    assert output.startswith(f"prod: {entry['id'][:8]}, rte + sst2 by mask-fisher")
    assert [row["id"] for row in listed("--tag", "prod")] == [entry["id"]]
    succeeded(fmn("catalog", "get", "prod", tmp_path / "taken"))
    assert (
        AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "taken" / "rte"
        ).config.num_labels
        == 2
    )
    assert entry["id"] in (tmp_path / "taken" / "README.md").read_text()
    refused(fmn("catalog", "get", "prod", tmp_path / "taken"), "exists already")
    output = succeeded(fmn("catalog", "verify", "prod", "--metrics")).stdout
    assert "the same weights" in output
    assert "the same scores, of rte, sst2" in output
    refused(fmn("catalog", "rm", "prod"), "has the tag prod; 'fmn catalog untag prod' first")
    other = one(method="average")
    assert (
        f"(until now {entry['id'][:12]}'s"
        in succeeded(fmn("catalog", "tag", "prod", other["id"][:8])).stdout
    )
    succeeded(fmn("catalog", "untag", "prod"))
    refused(fmn("catalog", "untag", "prod"), "no merge has the tag 'prod'")
    succeeded(fmn("catalog", "rm", entry["id"][:8], "--reason", "a trial"))
    assert entry["id"] not in {row["id"] for row in listed()}
    succeeded(fmn("catalog", "rm", "--undo", entry["id"][:12]))
    assert entry["id"] in {row["id"] for row in listed()}
    succeeded(fmn("catalog", "rm", entry["id"][:8]))
    output = succeeded(fmn("store", "gc", "--grace", "-1")).stdout
    assert "2 removed records dropped" in output
    refused(fmn("catalog", "rm", "--undo", entry["id"][:12]), "no removed merges")


def test_verify_finds_a_model_that_changed(store, ran, tmp_path):
    copied = Path(shutil.copytree(ran / "world" / "rte", tmp_path / "rte"))
    same = fmn("catalog", "verify", one()["id"][:8], "--model", f"rte={copied}")
    assert "the same weights" in succeeded(same).stdout
    flip(copied / "model.safetensors")
    refused(
        fmn("catalog", "verify", one()["id"][:8], "--model", f"rte={copied}"),
        "has other weights than model rte of the merge",
    )
    refused(fmn("catalog", "verify", one()["id"][:8], "--model", "rte"), "expected NAME=DIR")


def test_push_lists_what_it_would_send(store):
    output = succeeded(fmn("catalog", "push", one()["id"][:8], "hf://team/nli", "--dry-run")).stdout
    paths = {line.split()[-1] for line in output.splitlines()[:-1]}
    assert {
        "README.md",
        "recipe.yaml",
        "rte/head.safetensors",
        "sst2/config.json",
        "rte/model.safetensors.index.json",
    } <= paths
    assert "would be sent to hf://team/nli" in output
    refused(fmn("catalog", "push", one()["id"][:8], "team/nli"), "expected hf://org/name")
    refused(
        fmn("catalog", "push", one()["id"][:8], "hf://team/nli"),
        "no token for https://huggingface.co; run 'hf auth login'",
    )


def test_push_sends_what_it_listed(store, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    listed_ = succeeded(
        fmn("catalog", "push", one()["id"][:8], "hf://team/nli", "--dry-run")
    ).stdout.splitlines()[:-1]
    succeeded(fmn("catalog", "push", one()["id"][:8], "hf://team/nli", "--private"))
    assert sorted(hub.files) == sorted(line.split()[-1] for line in listed_)
    assert one()["id"].encode() in hub.files["README.md"]
    assert hub.private == {"team/nli": True}


def test_a_fisher_is_pushed_beside_its_model_and_pulled_by_others(store, ran, tmp_path):
    model = Path(shutil.copytree(ran / "world" / "rte", tmp_path / "rte"))
    assert (
        "would be the mask Fisher of rte"
        in succeeded(fmn("fisher", "push", model, "--dry-run")).stdout
    )
    output = succeeded(fmn("fisher", "push", model)).stdout
    assert output.startswith(
        f"{model}/fisher/mask.rte.safetensors: the mask Fisher of rte, 16 samples"
    )
    pulled = succeeded(fmn("fisher", "pull", model, "--store", tmp_path / "other")).stdout
    assert "the mask Fisher of rte is there now" in pulled
    assert "was there" in succeeded(fmn("fisher", "pull", model)).stdout
    succeeded(fmn("fisher", "pull", model, "--out", tmp_path / "fisher.safetensors"))
    succeeded(fmn("inspect", tmp_path / "fisher.safetensors"))
    refused(fmn("fisher", "pull", ran / "world" / "sst2"), "no mask Fisher is beside")
    refused(
        fmn("fisher", "push", model, "--samples", 99),
        "has no such mask Fisher of .*compute it first: fmn fisher",
    )


def test_gram_matrices_are_not_drawn(ran, store, tmp_path):
    there = set(open_store(str(store)).keys("fisher"))
    model = ("--task", "rte", "--data", ran / "world" / "data", "--kind", "gram", "--samples", 4)
    succeeded(
        fmn(
            "fisher",
            ran / "world" / "rte",
            *model,
            "--store",
            store,
            "--out",
            tmp_path / "gram.safetensors",
        )
    )
    (key,) = set(open_store(str(store)).keys("fisher")) - there
    refused(
        fmn("inspect", key[:8]),
        f"{key[:8]} is of Gram matrices, of which there is no picture; expected a mask Fisher or a",
    )


def test_inspect_draws_what_an_id_names(store, tmp_path):
    merge, average = one()["id"], one(method="average")["id"]
    assert "models: A rte, B sst2" in succeeded(fmn("inspect", merge[:8])).stdout
    succeeded(fmn("inspect", merge[:8], "--plot", tmp_path / "shares.png"))
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")
    lineage = json.loads(succeeded(fmn("catalog", "show", merge[:8], "--json")).stdout)["fishers"]
    assert "mask Fisher" in succeeded(fmn("inspect", lineage["rte"]["key"][:8])).stdout
    refused(fmn("inspect", average[:8]), "was merged by average, which weights no mask nodes")
    refused(fmn("inspect", "0000000"), "no merge '0000000'")


def test_report_is_one_file_about_every_merge(store, tmp_path):
    output = succeeded(fmn("report", "--out", tmp_path / "page", "--pictures")).stdout
    assert f"{tmp_path / 'page' / 'index.html'}: 6 merges of 3 models" in output
    page = (tmp_path / "page" / "index.html").read_text()
    assert all(entry["id"] in page for entry in listed())
    assert (tmp_path / "page" / "pairs.svg").read_text().startswith("<svg")
    succeeded(fmn("report", "--out", tmp_path / "page"))  # it replaces the page
