"""What a flow computed, `dvc repro` finds, and the other way round; the store is the DVC remote.
One story, told once."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import pytest
import yaml

from tests.dvc_pipeline.conftest import Clone, Done, Objects, Team

pytestmark = pytest.mark.slow

SAID = {"fisher": {"samples": 2}, "merge": {"weights": {"sst2": 3.0}}}
"""What the second revision says differently: other Fishers, other merges, other scores."""


@dataclass
class Story:
    """What happened, in this order: a flow, repro, two pushes; another revision; a third model; the
    trap.

    Attributes:
        team: with its bucket.
        clone: in which all of it was done.
        after: the bucket after each step.
        runs: of each step.
        puts: requests of the pushes that wrote something.
        outs: of the stages, by revision.
        revisions: by name.
        status: what Git saw, after steps.
    """

    team: Team
    clone: Clone
    after: dict[str, Objects]
    runs: dict[str, Done]
    puts: dict[str, int]
    outs: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    status: dict[str, list[str]]

    def do(self, name: str, done: Done) -> None:
        self.runs[name], self.after[name] = done, self.team.objects()

    def push(self, name: str) -> None:
        self.team.server.reset()
        done = self.clone.dvc("push")
        requests = self.team.server.requests()
        self.puts[name] = requests["put"] + requests["post"]
        self.do(name, done)

    def keep(self, name: str) -> None:
        self.outs[name], self.revisions[name] = self.clone.outs(), self.clone.commit(name)


@pytest.fixture(scope="module")
def story(team: Team, prefect_database: Path) -> Story:
    clone = team.first(
        "first",
        fisher={"samples": 16, "seed": 1},
        merge={"methods": ["average", "mask-fisher"], "keep": "best", "heads": "merged"},
    )
    (clone.home / "prefect").mkdir()
    shutil.copy(prefect_database, clone.home / "prefect")
    story = Story(team, clone, {}, {}, {}, {}, {}, {"begin": clone.status()})
    story.do(
        "flow",
        clone.run(
            sys.executable,
            "-m",
            "flows.merge_zoo",
            "params.yaml",
            "--summary",
            team.tmp / "flow.json",
        ),
    )
    story.do("repro", clone.dvc("repro"))
    clone.dvc("plots", "show")
    story.status["repro"] = clone.status()
    story.push("push")
    story.push("push again")
    story.keep("one")
    clone.say(**SAID)
    story.do("repro two", clone.dvc("repro"))
    story.status["repro two"] = clone.status()
    story.do("diff", clone.dvc("metrics", "diff", "--json"))
    story.push("push two")
    story.keep("two")
    return story


def computed(output: str) -> list[str]:
    """Return what the steps of a run say that they computed."""
    return re.findall(r"computed (.*), took", output)


def named_by_dvc(clone: Clone) -> set[str]:
    """Return the objects that dvc.lock names as outs that are kept."""
    stages = yaml.safe_load((clone.folder / "dvc.lock").read_text())["stages"]
    return {
        out["md5"] for name, stage in stages.items() if name != "inputs" for out in stage["outs"]
    }


def test_after_a_flow_repro_computes_nothing(story):
    assert json.loads((story.team.tmp / "flow.json").read_text())["computed"]["fisher"] == 2
    done = story.runs["repro"]
    assert done.stages() == ["inputs", "fisher@model0", "fisher@model1", "merges", "leaderboard"]
    assert computed(done.out) == ["nothing"] * 3
    assert story.after["repro"] == story.after["flow"]


def test_git_sees_dvc_lock_and_nothing_else_that_was_generated(story):
    assert story.status == {
        "begin": [],
        "repro": ["dvc.lock"],
        "repro two": ["dvc.lock", "params.yaml"],
    }


def test_push_after_a_flow_uploads_no_object_twice(story):
    before, after = story.after["repro"], story.after["push"]
    assert {path: after[path] for path in before} == before
    new = after.keys() - before.keys()
    assert (
        story.puts["push"] == len(new) == 6
    )  # two lists of Fishers, the scores, the metrics, the data of two plots
    clone = story.team.clone(story.clone, "puller")
    clone.git("checkout", "--quiet", story.revisions["one"])
    clone.dvc("pull")
    assert named_by_dvc(clone) == {path.removeprefix("files/md5/").replace("/", "") for path in new}
    assert clone.outs() == story.outs["one"]
    assert story.puts["push again"] == 0
    assert story.after["push again"] == after


def test_the_files_of_the_stages_are_the_objects_of_the_store(story):
    tags = {tag.strip('"') for _, tag in story.after["flow"].values()}
    files = {
        path: content for path, content in story.outs["one"].items() if path.startswith("fishers/")
    }
    assert set(files) == {
        "fishers/model0/sst2.mask-fisher.safetensors",
        "fishers/model1/rte.mask-fisher.safetensors",
    }
    assert all(md5(content).hexdigest() in tags for content in files.values())


def test_repro_computes_only_what_changed_and_says_it_in_the_metrics(story):
    done = story.runs["repro two"]
    assert done.stages() == ["inputs", "fisher@model0", "fisher@model1", "merges", "leaderboard"]
    assert computed(done.out) == ["1 Fisher", "1 Fisher", "2 merges, 2 evaluations, 1 model"]
    changes = json.loads(story.runs["diff"].out)["results/metrics.json"]
    one, two = (
        json.loads(story.outs[revision]["results/metrics.json"]) for revision in ("one", "two")
    )
    change = changes["mean_normalized.average.all"]
    assert (change["old"], change["new"]) == tuple(
        m["mean_normalized"]["average"]["all"] for m in (one, two)
    )
    assert not any(name.startswith("individual.") for name in changes)


def test_the_second_push_uploads_only_what_is_new(story):
    before, after = story.after["repro two"], story.after["push two"]
    assert {path: after[path] for path in before} == before
    assert story.puts["push two"] == len(after.keys() - before.keys()) > 0


def test_after_repro_and_push_a_run_in_another_clone_computes_nothing(story):
    clone = story.team.clone(story.clone, "second")
    clone.git("checkout", "--quiet", story.revisions["two"])
    before = story.team.objects()
    done = clone.fmn("run", "params.yaml")
    assert computed(done.out) == ["nothing"]
    assert story.team.objects() == before
    assert clone.dvc("pull").code == 0
    assert clone.outs() == story.outs["two"]
    clone.git("checkout", "--quiet", story.revisions["one"])
    clone.dvc("pull")
    assert clone.outs() == story.outs["one"] != story.outs["two"]
    again = clone.dvc(
        "repro"
    )  # of what is not kept by DVC, only what the stages depend on was missing
    assert again.stages() == ["inputs"]
    assert clone.status() == []
    assert story.team.objects() == before


def test_settings_that_change_no_result_rerun_nothing(story):
    clone = story.team.clone(story.clone, "third")
    clone.dvc("pull")
    clone.dvc("repro")
    assert clone.status() == []
    clone.say(fisher={"batch_size": 5}, evaluate={"batch_size": 7}, runner={"retries": 0})
    done = clone.dvc("repro")
    assert done.stages() == ["inputs"]
    assert done.out.count("didn't change, skipping") == 4
    assert clone.status() == ["params.yaml"]


def test_metrics_and_plots_say_how_the_merges_stand(story):
    clone = story.team.clone(story.clone, "viewer")
    clone.dvc("pull")
    scores = clone.json("results/scores.json")
    assert len(scores["merges"]) == 2
    (shown,) = (
        entry["data"]
        for entry in json.loads(clone.dvc("metrics", "show", "--json").out)[""]["data"].values()
    )
    means = {method: by_size["all"] for method, by_size in shown["mean_normalized"].items()}
    assert means == scores["mean_normalized"]
    assert shown["individual"] == scores["individual"]
    best = max(scores["merges"], key=lambda merge: merge["normalized_mean"])
    assert shown["best"] == {
        "2_models": {
            "normalized": best["normalized_mean"],
            "merge": f"sst2 + rte by {best['method']}",
        }
    }
    assert "mean_normalized.mask-fisher.2_models" in clone.dvc("metrics", "show", "--md").out
    clone.dvc("plots", "show")
    pages = (clone.folder / "dvc_plots" / "index.html").read_text()
    plots = [
        json.loads(spec) for spec in re.findall(r"var spec = (.*);$", pages, flags=re.MULTILINE)
    ]
    titles = {plot["title"]["text"]: plot for plot in plots}
    assert set(titles) == {
        "Mean normalised score by method and number of models",
        "Normalised score of every merge",
    }
    for plot, field in zip(plots, ("label", "merge"), strict=True):
        assert (plot["encoding"]["x"]["field"], plot["encoding"]["y"]["field"]) == (
            "normalized",
            field,
        )
    merges = {
        row["merge"]: float(row["normalized"])
        for row in titles["Normalised score of every merge"]["data"]["values"]
    }
    assert merges == {
        f"sst2 + rte by {merge['method']}": merge["normalized_mean"] for merge in scores["merges"]
    }
    clone.dvc("plots", "diff", story.revisions["one"], story.revisions["two"])
    assert story.revisions["one"][:7] in (clone.folder / "dvc_plots" / "index.html").read_text()


def test_a_model_more_costs_one_fisher_and_one_less_leaves_nothing(story):
    clone = story.team.clone(story.clone, "fourth")
    clone.dvc("pull")
    before, lock = (
        story.team.records("fisher"),
        yaml.safe_load((clone.folder / "dvc.lock").read_text())["stages"],
    )
    models = yaml.safe_load((clone.folder / "params.yaml").read_text())["models"]
    clone.say(models=[*models, {"model": str(story.team.world.model("mnli")), "task": "mnli"}])
    done = clone.dvc("repro", "fisher")  # all of the models'
    assert done.stages() == ["inputs", "fisher@model2"]
    assert computed(done.out) == ["1 Fisher"]
    assert len(story.team.records("fisher") - before) == 1
    assert clone.outs().keys() - story.outs["two"].keys() == {
        "fishers/model2/mnli.mask-fisher.safetensors"
    }
    clone.say(models=models)
    assert clone.dvc("repro").stages() == ["inputs"]
    assert clone.outs() == story.outs["two"]
    kept = yaml.safe_load((clone.folder / "dvc.lock").read_text())["stages"]
    assert {name: kept[name] for name in kept if name != "fisher@model2"} == lock


def test_dvc_gc_on_the_remote_is_a_trap_that_verify_names_and_a_run_repairs(story):
    clone, world, store = story.clone, story.team.world, story.team.store
    before = story.team.objects()
    assert clone.fmn("store", "gc", "--grace", 0, "--dry-run").out.startswith(
        "0 objects"
    )  # it knows what both revisions need
    assert clone.fmn("store", "verify").out == f"{store}: every record is whole\n"

    clone.dvc("gc", "--workspace", "--cloud", "--force")
    lost = before.keys() - story.team.objects().keys()
    assert all(path.startswith("files/md5/") for path in lost)
    done = clone.fmn("store", "verify", code=1)
    kinds = Counter(line.split("/")[2] for line in done.out.splitlines())
    assert kinds.pop("publish") == 2  # models that load, which no stage names
    assert kinds.pop("fisher") >= 2  # of the other revision
    assert kinds.pop("evaluate") == 6  # what was predicted, which no stage names
    assert not kinds
    assert re.search(
        r"any run that keeps rte \+ sst2 by \S+ derives it again from its models and Fishers",
        done.out,
    )
    (command,) = re.findall(rf"fmn fisher {world.model('sst2')} .* …", done.out)
    assert command.endswith(
        f" --task sst2 --data {world.data} --kind mask --samples 16 --seed 1 --store … --out …"
    )
    clone.run(
        *command.replace("--store …", f"--store {store}")
        .replace("--out …", "--out results/derived")
        .split()
    )

    clone.git("checkout", "--quiet", story.revisions["one"])
    run = clone.fmn("run", "params.yaml")
    assert computed(run.out) == ["1 Fisher, 4 evaluations, 1 model"]
    left = clone.fmn("store", "verify", code=1).out.splitlines()
    assert [line for line in left if "/sst2 " in line or "/rte " in line] == []
    assert sum("/publish/" in line for line in left) == 1  # the other revision's
    after = story.team.objects()
    again = lost & after.keys()
    assert {path: after[path][1] for path in again} == {path: before[path][1] for path in again}
