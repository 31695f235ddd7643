"""The paper's protocol on a small zoo: the numbers, the store, what is refused."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from fmn.errors import DataError, FmnError, MergeError, OutputError, ParamsError
from fmn.recipe import FisherSettings, read_recipe
from fmn.report.documents import comma_separated, latex, markdown
from fmn.steps import reproduce
from fmn.steps.measure import evaluate_path
from fmn.steps.recipe import merge_recipe
from fmn.steps.reproduce import EVERY, METHODS, Protocol, paper
from tests.steps.conftest import make_lab, object_of, reference
from tests.steps.test_merge import refuse_to_compute
from tests.steps.world import LABELS, TRAIN

PAPER = Path(paper.__file__).parent
SHORT = Protocol(samples=(16, 2048))
PAIRS = list(combinations(LABELS, 2))
FISHERS = {
    "average": None,
    "mask-fisher": {},
    "published-code": {"replacement": True, "aggregation": "per-batch", "batch_size": 32},
    "fisher": {},
}


def opened(lab, protocol=SHORT):
    return reproduce.open_reproduction(lab.params, protocol, lab.context().memo)


def done(lab, protocol=SHORT, tell=lambda line: None):
    """Run it; return the tally and the results."""
    reproduction, store = opened(lab, protocol), lab.store
    tally = reproduce.run(
        reproduction, reproduce.plan(reproduction, store), store, lab.context(), tell
    )
    return tally, reproduce.read_results(reproduction, store)


def tables(results):
    return {table.name: table for table in reproduce.documents(results) if table.rows}


def rows_of(table):
    return list(csv.DictReader(io.StringIO(comma_separated(table))))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A zoo on which the protocol was run; it is to stay as it is."""
    lab = make_lab(tmp_path_factory.mktemp("whole"), world)
    tally, results = done(lab)
    assert dict(tally.computed) == {"fisher": 18, "merge": 25, "evaluate": 28}
    return lab, results


@pytest.fixture
def again(whole, world, tmp_path):
    """The same, to be changed."""
    shutil.copytree(whole[0].folder / "store", tmp_path / "store")
    return make_lab(tmp_path, world)


def by_hand(lab, folder, names, method, samples):
    """Merge and measure without the protocol, the zoo, the store; return the scores by name."""
    rule = "mask-fisher" if method == "published-code" else method
    parameters = {"association": "layer-mean"} if method == "published-code" else {}
    settings = {"samples": samples, **(FISHERS[method] or {})}
    recipe = lab.world.recipe(
        folder / "recipe.yaml", names, method=rule, parameters=parameters, fisher=settings
    )
    out = folder / f"{'-'.join(names)}-{method}-{samples}"
    merge_recipe(read_recipe(recipe), out, lab.context())
    return {
        score.task: score.headline
        for score in evaluate_path(str(out), [], lab.world.data, lab.params.evaluate, lab.context())
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("names", "samples", "label"), [(("rte", "mnli"), 16, "16"), (("sst2", "rte"), TRAIN, "all")]
)
def test_every_pair_scores_what_it_does_by_hand(method, names, samples, label, whole, tmp_path):
    lab, results = whole
    scores = by_hand(lab, tmp_path, names, method, samples)
    (outcome,) = (
        o
        for o in results.outcomes
        if o.column.method == method and o.column.examples in ("", label)
    )
    (row,) = (row for row in outcome.rows(2) if set(row.scores) == set(names))
    assert row.scores == scores
    own = {name: results.individual[name] for name in names}
    (line,) = (
        line for line in rows_of(tables(results)["pairs"]) if line["pair"] == " + ".join(names)
    )
    assert (
        line[outcome.column.label]
        == f"{100 * fmean(scores[name] / own[name] for name in names):.2f}"
    )


@pytest.mark.parametrize("method", METHODS)
def test_three_models_score_what_they_do_by_hand(method, whole, tmp_path):
    lab, results = whole
    scores = by_hand(lab, tmp_path, tuple(LABELS), method, 16)
    (outcome,) = (o for o in results.fewest() if o.column.method == method)
    mean = 100 * fmean(scores[name] / results.individual[name] for name in LABELS)
    (two, three) = rows_of(tables(results)["sizes"])
    assert (two["sets"], three["sets"]) == ("3", "1")
    assert three[outcome.column.label] == f"{mean:.2f}"
    assert two[outcome.column.label] == f"{fmean(outcome.means(2)):.2f}"


def test_aggregates_are_those_of_the_scores(whole):
    _, results = whole
    scores = rows_of(tables(results)["scores"])
    assert len(scores) == 7 * 3 * 2 + 4 * 3
    for line in scores:
        assert float(line["low"]) <= float(line["merged"]) <= float(line["high"])
        assert float(line["low"]) < float(line["high"]) or line["merged"] in ("100.0000", "0.0000")
    titles = {
        "averaging": "average",
        "mask Fisher": "mask-fisher",
        "published code": "published-code",
        "full Fisher": "fisher",
    }

    def pairs(method, examples):
        lines_of = {}
        for line in scores:
            if (line["method"], line["examples"]) == (method, examples) and line["models"].count(
                "+"
            ) == 1:
                assert float(line["normalised"]) == pytest.approx(
                    100 * float(line["merged"]) / float(line["own"]), abs=1e-3
                )
                lines_of.setdefault(line["models"], []).append(line)
        assert len(lines_of) == len(PAIRS)
        return lines_of

    def means(lines_of):
        return {
            pair: fmean(float(line["normalised"]) for line in lines)
            for pair, lines in lines_of.items()
        }

    base = means(pairs("average", ""))
    table = rows_of(tables(results)["aggregate"])
    assert [(line["method"], line["examples"]) for line in table] == [
        ("averaging", ""),
        *(
            (title, examples)
            for examples in ("16", "all")
            for title in ("mask Fisher", "published code", "full Fisher")
        ),
    ]
    for line in table:
        lines_of = pairs(titles[line["method"]], line["examples"])
        of = means(lines_of)
        assert float(line["normalised"]) == pytest.approx(fmean(of.values()), abs=0.006)
        assert float(line["std"]) == pytest.approx(stdev(of.values()), abs=0.006)
        assert (float(line["lowest"]), float(line["highest"])) == pytest.approx(
            (min(of.values()), max(of.values())), abs=0.006
        )
        merged = fmean(float(each["merged"]) for lines in lines_of.values() for each in lines)
        assert float(line["score"]) == pytest.approx(merged, abs=0.006)
        if line["method"] == "averaging":
            assert line["against averaging"] == line["pairs above"] == ""
        else:
            gains = [of[pair] - base[pair] for pair in base]
            assert float(line["against averaging"]) == pytest.approx(fmean(gains), abs=0.006)
            assert float(line["largest gain"]) == pytest.approx(max(gains), abs=0.006)
            assert line["pairs above"] == f"{sum(gain > 1e-3 for gain in gains)} of 3"


def test_seconds_are_those_of_the_records(whole):
    lab, results = whole
    seconds = {}
    for record in lab.store.find("fisher", lab.store.keys("fisher")).values():
        taken = record.inputs["settings"]
        method = "published" if taken.get("replacement") else record.inputs["of"]
        seconds[record.names["name"], taken["samples"], method] = record.made.seconds
    table = rows_of(tables(results)["times"])
    assert [(line["task"], line["examples"]) for line in table] == [
        *((task, "16") for task in LABELS),
        ("all 3", "16"),
        *((task, str(TRAIN)) for task in LABELS),
        ("all 3", "all"),
    ]
    for line in table:
        names = [line["task"]] if line["task"] in LABELS else list(LABELS)
        samples = TRAIN if line["examples"] == "all" else int(line["examples"])
        sums = {
            m: sum(seconds[n, samples, m] for n in names)
            for m in ("mask-fisher", "published", "diagonal-fisher")
        }
        assert line["mask Fisher, s"] == f"{sums['mask-fisher']:.2f}"
        assert line["published code, s"] == f"{sums['published']:.2f}"
        assert line["full Fisher, s"] == f"{sums['diagonal-fisher']:.2f}"
        for title, method in (("mask Fisher", "mask-fisher"), ("published code", "published")):
            ratios = [
                seconds[n, samples, "diagonal-fisher"] / seconds[n, samples, method] for n in names
            ]
            assert line[f"speed-up of {title}"] == f"{fmean(ratios):.1f}"


def test_the_published_codes_settings(whole):
    lab, _ = whole
    column = next(column for column in opened(lab).columns if column.method == "published-code")
    for step in column.fishers.values():
        assert step.settings == FisherSettings(
            samples=16, replacement=True, aggregation="per-batch", batch_size=32
        )
        assert (step.statistic.name, step.labels_used) == ("mask-fisher", "true")
    assert column.graph.zoo.params.merge.parameters == {"association": "layer-mean"}


def test_a_second_run_computes_nothing_and_says_the_same(again, whole, monkeypatch):
    refuse_to_compute(monkeypatch)
    reproduction = opened(again)
    planned = reproduce.plan(reproduction, again.store)
    assert planned.stages == ()
    assert (
        planned.in_words()
        == "in the store: 18 of 18 Fishers, 25 of 25 merges, 28 of 28 evaluations"
    )
    tally, results = done(again)
    assert (tally.computed, dict(tally.cached)) == ({}, {"fisher": 18, "merge": 25, "evaluate": 28})
    assert tables(results) == tables(whole[1])


def test_what_a_run_of_the_zoo_computed_is_taken(ran):
    tally, _ = done(ran, Protocol(methods=("average", "mask-fisher"), samples=(16,)))
    assert tally.computed == {}
    assert dict(tally.cached) == {"fisher": 3, "merge": 8, "evaluate": 11}


def test_a_part_first_and_the_whole_later(lab, whole):
    part, _ = done(lab, Protocol(methods=("average", "fisher"), samples=(16,), sizes=(2,)))
    assert dict(part.computed) == {"fisher": 3, "merge": 6, "evaluate": 9}
    rest, results = done(lab)
    assert dict(rest.computed) == {"fisher": 15, "merge": 19, "evaluate": 19}
    mine, theirs = tables(results), tables(whole[1])
    assert all(mine[name] == theirs[name] for name in ("pairs", "aggregate", "sizes", "scores"))


def test_fishers_alone(lab, monkeypatch):
    monkeypatch.setattr(
        "fmn.steps.evaluate.EvaluateStep.compute", lambda *a, **k: pytest.fail("measured a model")
    )
    tally, results = done(lab, Protocol(samples=(16, 2048), sizes=()))
    assert dict(tally.computed) == {"fisher": 18}
    assert tables(results).keys() == {"times", "paper-seconds", "paper-speed-up", "paper-setup"}
    assert reproduce.picture(results) is None


def test_tables_of_what_there_is(lab):
    done(lab, Protocol(methods=("average", "mask-fisher"), samples=(16,), sizes=(2,)))
    by_name = tables(reproduce.read_results(opened(lab), lab.store))
    assert rows_of(by_name["pairs"])[0].keys() == {"pair", "averaging", "mask Fisher 16"}
    (line,) = rows_of(by_name["sizes"])
    assert (line["models merged at a time"], line["sets"]) == ("2", "3")
    assert "Merges that are not measured yet: 2" in markdown(
        [by_name["sizes"]]
    )  # all three models, by both methods
    assert "not measured yet" not in markdown([by_name["pairs"], by_name["aggregate"]])


def test_pairs_that_are_missing_are_told(again):
    column = opened(again).columns[1]
    key = column.graph.step(reference("evaluate", "sst2", "rte", "mask-fisher")).key
    next((again.folder / "store").glob(f"records/v2/evaluate/*/{key}.json")).unlink()
    by_name = tables(reproduce.read_results(opened(again), again.store))
    assert next(line["mask Fisher 16"] for line in rows_of(by_name["pairs"])) == ""
    for name in ("pairs", "aggregate", "sizes"):
        assert (
            "Merges that are not measured yet: 1; means are over the others." in by_name[name].notes
        )


@pytest.mark.parametrize(
    "stage", ["mask Fisher 16: Fishers", "averaging: sets of 2", "published code 16: sets of 3"]
)
def test_an_interrupted_run_goes_on(stage, lab, whole):
    def interrupt(line):
        if line.startswith(f"{stage}:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done(lab, tell=interrupt)
    there = {kind: len(lab.store.keys(kind)) for kind in ("fisher", "merge", "evaluate")}
    assert 0 < sum(there.values()) < 18 + 25 + 28
    tally, results = done(lab)
    assert {kind: tally.computed[kind] + there[kind] for kind in there} == {
        "fisher": 18,
        "merge": 25,
        "evaluate": 28,
    }
    assert tables(results)["scores"] == tables(whole[1])["scores"]


@pytest.mark.soak(again=1)
def test_a_killed_run_goes_on(lab, whole):
    lab.world.params(lab.folder / "params.yaml", **lab.described)
    command = [
        sys.executable,
        "-m",
        "fmn",
        "reproduce",
        "--samples",
        "16,2048",
        "--device",
        "cpu",
    ]
    killed = subprocess.Popen(
        command,
        cwd=lab.folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = lab.folder / "store" / "records"
    while killed.poll() is None and len(list(records.rglob("*.json"))) < 8:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (lab.folder / "reproduction").exists()
    there = {kind: len(lab.store.keys(kind)) for kind in ("fisher", "merge", "evaluate")}
    tally, results = done(lab)
    assert {kind: tally.computed[kind] + there[kind] for kind in there} == {
        "fisher": 18,
        "merge": 25,
        "evaluate": 28,
    }
    assert tables(results)["scores"] == tables(whole[1])["scores"]


def test_damage_is_computed_again(again, whole):
    (score, *_), (fisher, *_) = (
        sorted((again.folder / "store").glob(f"records/v2/{k}/*/*.json"))
        for k in ("evaluate", "fisher")
    )
    score.chmod(0o644)
    score.write_text("{")
    record = again.store.get("fisher", fisher.stem)
    object_of(again.store, record.outputs["fisher"].md5).unlink()
    tally, results = done(again)
    assert dict(tally.computed) == {"fisher": 1, "evaluate": 1}
    assert tables(results)["scores"] == tables(whole[1])["scores"]


def test_counts_that_come_to_the_same_are_one(lab):
    reproduction = opened(lab, Protocol(samples=(2048, 16, TRAIN, EVERY)))
    assert [column.label for column in reproduction.columns] == [
        "averaging",
        *(
            f"{title} {examples}"
            for examples in ("16", "all")
            for title in ("mask Fisher", "published code", "full Fisher")
        ),
    ]
    tally, _ = done(
        lab, Protocol(methods=("mask-fisher",), samples=(2048, TRAIN, EVERY), sizes=(2,))
    )
    assert tally.computed["fisher"] == 3
    assert lab.warnings == []


def test_what_is_computed_for_regmean_counts_as_fishers_do(lab):
    reproduction = opened(lab, Protocol(methods=("average", "regmean"), samples=(8, 16)))
    assert [column.label for column in reproduction.columns] == [
        "averaging",
        "regmean 8",
        "regmean 16",
    ]
    taken = [
        [step.inputs["settings"]["samples"] for step in column.fishers.values()]
        for column in reproduction.columns[1:]
    ]
    assert taken == [[8] * 3, [16] * 3]


def test_methods_are_told_their_own_parameters(lab):
    lab.say("merge", parameters={"density": 0.3, "scale": 1.0})
    lab.described["parent"] = lab.described["models"][0]["model"]
    columns = opened(
        lab, Protocol(methods=("average", "ties", "task-arithmetic"), samples=(16,))
    ).columns
    parameters = [column.graph.zoo.params.merge.parameters for column in columns]
    assert parameters == [{}, {"density": 0.3, "scale": 1.0}, {"scale": 1.0}]
    with pytest.raises(ParamsError, match="task-arithmetic has no parameter density"):
        opened(lab, Protocol(methods=("average", "task-arithmetic"), samples=(16,)))


def test_weights_and_fishers_of_the_params_are_left_aside(again, tmp_path):
    again.entry("rte").update(weight=0.5, fisher=str(tmp_path / "mine.safetensors"))
    again.say(
        "merge",
        parameters={"association": "value", "normalize": "l2"},
        methods=["average"],
        weights={"sst2": 3},
    )
    again.say(
        "fisher",
        samples=7,
        labels="sampled",
        aggregation="per-batch",
        placement="before-activation",
    )
    assert done(again)[0].computed == {}


def test_a_rule_of_ones_own_is_a_method(lab):
    lab.described["models"] = lab.described["models"][:2]
    _, results = done(lab, Protocol(methods=("average", "average"), samples=(16,)))
    assert [outcome.column.method for outcome in results.outcomes] == ["average"]
    assert tables(results).keys() == {
        "pairs",
        "aggregate",
        "sizes",
        "scores",
        "paper-scores",
        "paper-setup",
    }
    assert reproduce.picture(results) is None  # two points are no curve


@pytest.mark.parametrize(
    ("title", "papers"),
    [
        ("averaging", "averaging"),
        ("mask Fisher", "mask-fisher"),
        ("published code", "mask-fisher"),
        ("full Fisher", "fisher"),
    ],
)
def test_the_papers_figures_stand_beside(title, papers, whole):
    """All examples that there are stand beside any larger number, and no smaller one."""
    by_name = tables(whole[1])
    figures = {
        (row["method"], row["examples"], row["model"]): float(row["normalised"])
        for row in csv.DictReader((PAPER / "table1.csv").read_text().splitlines())
    }
    mine = {
        (line["method"], line["examples"]): line["normalised"]
        for line in rows_of(by_name["aggregate"])
    }
    lines = [line for line in rows_of(by_name["paper-scores"]) if line["method"] == title]
    counts = [""] if title == "averaging" else ["128", "2,048", "32,768"]
    assert [line["examples"] for line in lines] == counts
    for line in lines:
        assert line["here"] == mine[title, "all" if line["examples"] else ""]
        for model in ("bert-tiny", "bert-base", "bert-large", "roberta"):
            figure = figures[papers, line["examples"].replace(",", ""), model]
            assert float(line[model]) == figure
            gap = float(line["here"]) - figure
            assert float(line[f"here - {model}"]) == pytest.approx(gap, abs=0.006)


def test_what_differs_from_the_paper(whole):
    setup = {line["what"]: line["here"] for line in rows_of(tables(whole[1])["paper-setup"])}
    assert setup.keys() == {
        "models",
        "tasks",
        "rows to train on",
        "rows to measure on",
        "full Fisher",
        "hardware",
        "library",
    }
    assert setup["models"].startswith("3 of bert, ")
    assert setup["tasks"] == "mnli, rte, sst2"
    assert setup["rows to train on"] == f"{TRAIN} a task"
    assert setup["full Fisher"].startswith("expected labels")
    assert setup["hardware"] == "cpu"
    assert f"torch {torch.__version__}" in setup["library"]


def test_all_forms_have_the_same_cells(whole):
    documents = reproduce.documents(whole[1])
    text, tex = markdown(documents), latex(documents)
    for table in documents:
        assert list(csv.reader(io.StringIO(comma_separated(table)))) == [
            list(table.heading),
            *map(list, table.rows),
        ]
        for row in () if table.is_long else table.rows:
            assert (
                sum(
                    [cell.strip() for cell in line.strip("|").split("|")] == list(row)
                    for line in text.splitlines()
                )
                >= 1
            )
            assert " & ".join(row).replace("%", r"\%") + r" \\" in tex.splitlines()


def test_seconds_of_several_machines_are_named(again):
    record = next(iter(again.store.all("fisher").values()))
    elsewhere = record.model_copy(
        update={"made": record.made.model_copy(update={"by": "else@where"})}
    )
    again.store.files.write(record.path, elsewhere.to_bytes())
    _, results = done(again)
    assert "seconds are hardly comparable" in " ".join(tables(results)["times"].notes)
    assert "cpu of else@where" in " ".join(tables(results)["times"].notes)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (
            Protocol(methods=("mask-fischer",)),
            "unknown method 'mask-fischer'; did you mean 'mask-fisher'.*published-code",
        ),
        (Protocol(methods=()), "no method; name at least one"),
        (Protocol(samples=(128, 0)), "samples 128, 0: expected 1 or more examples"),
        (Protocol(samples=()), "samples none: expected 1 or more"),
        (Protocol(sizes=(1, 2)), "sizes 1, 2: expected numbers from 2 to 3"),
        (Protocol(sizes=(4,)), "sizes 4: expected numbers from 2 to 3"),
    ],
)
def test_protocols_that_make_no_sense(protocol, message, lab, monkeypatch):
    refuse_to_compute(monkeypatch)
    with pytest.raises(ParamsError, match=message) as error:
        opened(lab, protocol)
    assert "\n" not in str(error.value)


def test_the_published_draw_needs_a_seed(lab):
    lab.say("fisher", seed=None)
    with pytest.raises(
        ParamsError, match=r"fisher.seed is null, but published-code draws examples by a seed"
    ):
        opened(lab)
    assert (
        len(opened(lab, Protocol(methods=("average", "mask-fisher"), samples=(16, 2048))).columns)
        == 1 + 2
    )


def test_nothing_runs_where_something_does_not_fit(lab, monkeypatch):
    refuse_to_compute(monkeypatch)
    lab.described["data"] = str(lab.folder / "nowhere")
    with pytest.raises(FmnError, match="nowhere") as error:
        done(lab)
    assert isinstance(error.value, DataError | MergeError)
    lab.described["data"] = lab.world.data
    lab.described["models"] = lab.described["models"][:1]
    with pytest.raises(ParamsError, match=r"models: .* at least 2"):
        done(lab)


def test_a_disk_that_is_too_small(lab, monkeypatch):
    refuse_to_compute(monkeypatch)
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(
        OutputError,
        match=(
            r"the Fishers need 0 MB in .*store, but .* has 0 MB free; make room, or ask for "
            r"fewer"
        ),
    ):
        done(lab)
    assert not (lab.folder / "store").exists()
