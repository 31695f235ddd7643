"""The commands that the stages call, each by itself; and the store as a remote, in a directory."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmn.cli import main
from fmn.steps.zoo.stages import check_out_fishers, write_inputs
from fmn.store import open_store
from tests.cli.conftest import fmn, refused, succeeded
from tests.dvc_pipeline.conftest import Clone, begin
from tests.steps.conftest import flip, make_lab, object_of
from tests.steps.world import write_yaml


@pytest.fixture
def lab(finished, world, tmp_path, monkeypatch):
    """A copy of it, and the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.folder / "store", tmp_path / "store")
    made = make_lab(tmp_path, world)
    assert made.params
    succeeded(fmn("stage", "inputs", "--out-dir", "inputs"))
    return made


def keys(lab):
    return {file.name: json.loads(file.read_text()) for file in (lab.folder / "inputs").iterdir()}


def test_every_command_has_help():
    listed = succeeded(fmn("stage", "--help")).stdout
    assert set(main.commands["stage"].commands) == {"inputs", "fisher", "merges", "leaderboard"}
    for name, command in main.commands["stage"].commands.items():
        assert f"  {name}" in listed
        assert command.help.split(",")[0][:30] in succeeded(fmn("stage", name, "--help")).stdout
        assert all(
            option.help for option in command.params if option.name not in ("inputs", "scores")
        )


def test_inputs_are_the_keys_of_the_store(lab):
    inputs = keys(lab)
    assert set(inputs) == {"model0.json", "model1.json", "model2.json", "zoo.json"}
    assert [inputs[f"model{number}.json"]["name"] for number in range(3)] == ["sst2", "rte", "mnli"]
    assert {
        content["fishers"]["mask-fisher"] for name, content in inputs.items() if name != "zoo.json"
    } == lab.store.keys("fisher")
    assert (inputs["zoo.json"]["models"], inputs["zoo.json"]["merges"]) == (3, 8)


@pytest.mark.parametrize(
    ("section", "settings", "changed"),
    [
        ("fisher", {"samples": 8}, {"model0.json", "model1.json", "model2.json", "zoo.json"}),
        ("fisher", {"samples": 16, "batch_size": 3}, set()),
        ("merge", {"weights": {"rte": 2.0}}, {"zoo.json"}),
        ("merge", {"keep": "best"}, {"zoo.json"}),
        (
            "merge",
            {"methods": ["average"]},
            {"model0.json", "model1.json", "model2.json", "zoo.json"},
        ),
        ("evaluate", {"limit": 20}, {"zoo.json"}),
        ("evaluate", {"limit": 30, "batch_size": 3}, set()),
        ("runner", {"retries": 7}, set()),
    ],
)
def test_inputs_change_with_what_changes_a_result(lab, section, settings, changed):
    before = keys(lab)
    times = {name: (lab.folder / "inputs" / name).stat().st_mtime_ns for name in before}
    lab.say(section, **settings)
    assert lab.params
    word = f"{len(changed) or 'no'} file{'s' * (len(changed) != 1)} changed"
    assert succeeded(fmn("stage", "inputs", "--out-dir", "inputs")).stdout == f"inputs: {word}\n"
    after = keys(lab)
    assert {name for name in after if after[name] != before[name]} == changed
    assert {
        name for name in times if (lab.folder / "inputs" / name).stat().st_mtime_ns != times[name]
    } == changed


def test_inputs_follow_a_model_by_its_content(lab):
    before = keys(lab)
    flip(lab.world.model("rte") / "model.safetensors")
    succeeded(fmn("stage", "inputs", "--out-dir", "inputs"))
    assert {name for name, content in keys(lab).items() if content != before[name]} == {
        "model1.json",
        "zoo.json",
    }


def test_inputs_of_a_model_that_is_gone_go_and_so_do_its_fishers_and_nothing_else(lab):
    for name in ("model1", "model2", "model7", "models", "model9"):
        (lab.folder / "fishers" / name).mkdir(parents=True)
        (lab.folder / "fishers" / name / "x.safetensors").touch()
    (lab.folder / "fishers" / "model9" / "notes.txt").touch()
    (lab.folder / "inputs" / "model-card.json").touch()
    del lab.described["models"][2]
    assert lab.params
    succeeded(fmn("stage", "inputs", "--out-dir", "inputs", "--fishers", "fishers"))
    assert {file.name for file in Path("inputs").iterdir()} == {
        "model0.json",
        "model1.json",
        "model-card.json",
        "zoo.json",
    }
    assert {folder.name for folder in Path("fishers").iterdir()} == {"model1", "models", "model9"}


def test_inputs_and_fishers_of_the_store_and_the_leaderboard_need_no_torch(lab):
    scores = {"individual": {}, "merges": [], "mean_normalized": {}}
    (lab.folder / "scores.json").write_text(json.dumps(scores))
    code = (
        "import sys, json, fmn.cli\nfmn.cli.main(sys.argv[1:], "
        "standalone_mode=False)\njson.dump(sorted(sys.modules), sys.stderr)"
    )
    for arguments in (
        ("inputs", "--out-dir", "new"),
        ("fisher", "inputs/model0.json", "--device", "cpu", "--out", "fishers/model0"),
        ("leaderboard", "scores.json", "--out-dir", "results"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "stage", *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        assert not {"torch", "transformers", "datasets"} & set(json.loads(done.stderr)), arguments


def test_a_fisher_is_the_bytes_of_the_store_whose_object_stays(lab, monkeypatch):
    monkeypatch.setattr(
        "fmn.models.load_model", lambda path: pytest.fail("computed what is in the store")
    )
    output = succeeded(
        fmn("stage", "fisher", "inputs/model1.json", "--out", "fishers/model1")
    ).stdout
    assert output == "fishers/model1: computed nothing, took 1 Fisher from the store\n"
    (file,) = Path("fishers/model1").iterdir()
    record = lab.store.get("fisher", keys(lab)["model1.json"]["fishers"]["mask-fisher"])
    stored = object_of(lab.store, record.outputs["fisher"].md5)
    assert (file.name, file.read_bytes()) == ("rte.mask-fisher.safetensors", stored.read_bytes())
    assert stored.stat().st_mode & 0o222 == 0


def test_a_fisher_whose_object_is_corrupt_is_computed_again(lab):
    record = lab.store.get("fisher", keys(lab)["model0.json"]["fishers"]["mask-fisher"])
    stored = object_of(lab.store, record.outputs["fisher"].md5)
    right = stored.read_bytes()
    flip(stored)
    check_out_fishers(
        lab.open(), Path("inputs/model0.json"), lab.store, lab.context(), Path("fishers/model0")
    )
    assert (
        Path("fishers/model0/sst2.mask-fisher.safetensors").read_bytes()
        == stored.read_bytes()
        == right
    )
    assert any("is corrupt; computing it again" in line for line in lab.warnings)


def test_a_fisher_that_the_entry_gives_is_not_copied_and_no_fisher_is_an_empty_directory(lab):
    succeeded(fmn("stage", "fisher", "inputs/model0.json", "--out", "given"))
    lab.entry("sst2")["fisher"] = str(lab.folder / "given" / "sst2.mask-fisher.safetensors")
    write_inputs(lab.open(), Path("inputs"))
    assert keys(lab)["model0.json"]["fishers"]["mask-fisher"].startswith("given ")
    succeeded(fmn("stage", "fisher", "inputs/model0.json", "--out", "fishers/model0"))
    assert list(Path("fishers/model0").iterdir()) == []


def test_merges_and_the_leaderboard(lab, tmp_path):
    output = succeeded(fmn("stage", "merges", "--out", "results/scores.json")).stdout
    assert output == (
        "results/scores.json: computed nothing, took 3 Fishers, 8 merges, 11 evaluations from "
        "the store\n"
    )
    scores = json.loads(Path("results/scores.json").read_text())
    assert len(scores["merges"]) == 8
    assert "seconds" not in scores  # they differ from machine to machine
    assert succeeded(
        fmn("stage", "leaderboard", "results/scores.json", "--out-dir", "results")
    ).stdout == ("results: 8 merges of 3 models\n")
    metrics = json.loads(Path("results/metrics.json").read_text())
    assert metrics["individual"] == scores["individual"]
    assert {method: means["all"] for method, means in metrics["mean_normalized"].items()} == scores[
        "mean_normalized"
    ]
    for method, means in metrics["mean_normalized"].items():
        normalized = [
            m["normalized_mean"]
            for m in scores["merges"]
            if m["method"] == method and len(m["scores"]) == 2
        ]
        assert len(normalized) == 3
        assert means["2_models"] == pytest.approx(sum(normalized) / 3)
    for size in (2, 3):
        best = max(
            (m for m in scores["merges"] if len(m["scores"]) == size),
            key=lambda m: m["normalized_mean"],
        )
        title = f"{' + '.join(best['scores'])} by {best['method']}"
        assert metrics["best"][f"{size}_models"] == {
            "normalized": best["normalized_mean"],
            "merge": title,
        }
    with Path("results/leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = {f"{' + '.join(m['scores'])} by {m['method']}": m for m in scores["merges"]}
    assert {row["merge"]: float(row["normalized"]) for row in rows} == {
        t: m["normalized_mean"] for t, m in expected.items()
    }
    assert [float(row["normalized"]) for row in rows] == sorted(
        (float(row["normalized"]) for row in rows), reverse=True
    )
    for row in rows:
        own = {
            name: float(row[f"score_{name}"])
            for name in scores["individual"]
            if row[f"score_{name}"]
        }
        assert own == expected[row["merge"]]["scores"]
    with Path("results/methods.csv").open() as file:
        labels = {row["label"]: float(row["normalized"]) for row in csv.DictReader(file)}
    assert labels == {
        f"{method}, {size} models": metrics["mean_normalized"][method][f"{size}_models"]
        for method in ("average", "mask-fisher")
        for size in (2, 3)
    }


def test_refusals(lab):
    out = ("--out", "fishers/model0")
    refused(
        fmn("stage", "inputs", "--params", "none.yaml", "--out-dir", "x"), r"cannot read none\.yaml"
    )
    refused(
        fmn("stage", "fisher", "inputs/model5.json", *out),
        r"cannot read inputs/model5\.json: No such file",
    )
    refused(fmn("stage", "fisher", "inputs/zoo.json", *out), r"inputs/zoo\.json: .*digest")
    refused(fmn("stage", "merges", "--out", "inputs/zoo.json"), r"inputs/zoo\.json exists already")
    refused(fmn("stage", "leaderboard", "none.json", "--out-dir", "x"), r"cannot read none\.json")
    refused(
        fmn("stage", "leaderboard", "inputs/zoo.json", "--out-dir", "x"),
        r"inputs/zoo\.json: .*digest",
    )
    (lab.folder / "fishers" / "model0").mkdir(parents=True)
    refused(fmn("stage", "fisher", "inputs/model0.json", *out), "fishers/model0 exists already")
    (lab.folder / "fishers" / "model0").rmdir()
    lab.say("fisher", samples=9)
    assert lab.params
    stale = (
        r"inputs/model0\.json is not what the params say now; write it again: fmn stage inputs "
        r"\(dvc repro does\)"
    )
    refused(fmn("stage", "fisher", "inputs/model0.json", *out), stale)
    del lab.described["models"][0]
    assert lab.params
    refused(fmn("stage", "fisher", "inputs/model0.json", *out), stale)
    assert not (lab.folder / "fishers" / "model0").exists()
    (lab.world.model("rte") / "config.json").unlink()
    refused(fmn("stage", "inputs", "--out-dir", "x"), "config.json")
    assert not Path("x").exists()


def test_a_store_that_cannot_be_written_to_is_said_before_a_fisher_is_computed(lab, monkeypatch):
    monkeypatch.setattr("fmn.models.load_model", lambda path: pytest.fail("computed"))
    lab.say("fisher", samples=9)
    assert lab.params
    succeeded(fmn("stage", "inputs", "--out-dir", "inputs"))

    def refuse(self):
        from fmn.errors import StoreError

        raise StoreError("it is read-only")

    monkeypatch.setattr("fmn.store.store.Store.check_writable", refuse)
    refused(
        fmn("stage", "fisher", "inputs/model0.json", "--out", "fishers/model0"), "it is read-only"
    )


def test_a_directory_is_a_dvc_remote_that_is_printed_or_written(world, programs, tmp_path):
    """What `dvc push` adds is where the store looks for objects."""
    clone = Clone(tmp_path / "clone", tmp_path, programs)
    begin(clone)
    entries = [{"model": str(world.model(task)), "task": task} for task in ("sst2", "rte")]
    write_yaml(
        clone.folder / "params.yaml",
        {"store": "../the store", "data": world.data, "models": entries},
    )
    (clone.folder / "deep").mkdir()
    (clone.folder / "file").write_text("content")
    clone.dvc("add", "--quiet", "file")
    for line in clone.fmn("store", "dvc-remote", "--name", "team").out.splitlines():
        assert line.startswith("dvc config ")
        clone.run(*shlex.split(line))
    clone.dvc("push")
    done = clone.run(
        "fmn",
        "store",
        "dvc-remote",
        f"file://{tmp_path / 'other'}",
        "--write",
        cwd=clone.folder / "deep",
    )
    assert done.out == (
        f"{clone.folder / '.dvc' / 'config'}: 'fmn' is the default remote, {tmp_path / 'other'}\n"
    )
    clone.dvc("push")
    for name in ("the store", "other"):
        objects = open_store(tmp_path / name, cache=tmp_path / "cache").objects.all()
        assert objects.keys() == {"9a0364b9e99bb480dd25e1f0284c8555"}


def test_a_remote_is_replaced_by_another_place_and_keeps_what_else_was_said_of_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / ".dvc" / "config"
    config.parent.mkdir()
    config.write_text("[core]\n    autostage = true\n['remote \"other\"']\n    url = /other\n")

    def content() -> str:
        return "".join(config.read_text().split())

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://server:9000")
    succeeded(fmn("store", "dvc-remote", "s3://bucket/prefix", "--write"))
    rest = """[core]autostage=trueremote=fmn['remote"other"']url=/other['remote"fmn"']"""
    assert content() == f"{rest}url=s3://bucket/prefixendpointurl=http://server:9000"
    config.write_text(f"{config.read_text()}    profile = team\n")
    succeeded(fmn("store", "dvc-remote", "s3://bucket/prefix", "--write"))
    assert content() == f"{rest}url=s3://bucket/prefixendpointurl=http://server:9000profile=team"
    succeeded(fmn("store", "dvc-remote", "/a/directory", "--write"))
    assert content() == f"{rest}url=/a/directory"
    config.write_text("[core\n")
    refused(fmn("store", "dvc-remote", "/a/directory", "--write"), r"cannot write \.dvc/config: ")


def test_no_dvc_repository_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(
        fmn("store", "dvc-remote", tmp_path, "--write"),
        rf"no DVC repository in {tmp_path}; run 'dvc init' first",
    )
