"""Some rows choose, the others are reported: what a run keeps of both, and that it predicts
once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn.catalog import ELSEWHERE, Catalog, in_order, join
from fmn.errors import DataError, MergeError, ParamsError
from fmn.evaluation import (
    Predictions,
    chance,
    chosen_by,
    get_task,
    interval,
    read_predictions,
    resampled,
)
from fmn.steps.scores import parted
from fmn.steps.zoo.leaderboard import Row, ZooReport, to_keep, zoo_report
from fmn.steps.zoo.stages import write_leaderboard, write_scores
from tests.catalog.conftest import evaluation, individual, merge
from tests.steps.conftest import Lab
from tests.steps.world import columns_of, write_split

ROWS = 30
METHODS = ["average", "fisher", "mask-fisher"]


@pytest.fixture
def selecting(ran: Lab) -> Lab:
    """A zoo that was run, and then told that some rows choose."""
    ran.say("evaluate", limit=ROWS, select=0.4)
    return ran


def test_the_record_has_both_parts_of_what_was_predicted(selecting):
    selecting.run()
    store, graph = selecting.store, selecting.open()
    for reference in (*graph.of("individual"), *graph.of("evaluate")):
        record = store.get("evaluate", graph.step(reference).key)
        predicted = read_predictions(store.path(record.outputs["predictions"]))
        chosen = record.value["selection"]
        for name, scores in record.value["scores"].items():
            assert record.inputs.get("measure", {"select": 0.4})["select"] == 0.4
            suffixes = ["", "mismatched"] if name == "mnli" else [""]
            assert chosen["examples"][name] == 12 * len(suffixes)
            assert record.value["examples"][name] == 18 * len(suffixes)
            for suffix in suffixes:
                metric = "accuracy" + f"_{suffix}" * bool(suffix)
                split = predicted[name].splits[suffix]
                right, which = split.predicted == split.references, chosen_by(ROWS, 0.4)
                assert len(right) == ROWS
                assert chosen["scores"][name][metric] == right[which].mean()
                assert scores[metric] == right[~which].mean()
                reported = split.take(~which)
                values = resampled(["accuracy"], reported.predicted, reported.references)
                ends = interval(values["accuracy"])
                assert tuple(record.value["intervals"][name][metric]) == ends
                best = chance("accuracy", reported.references)
                assert record.value["chance"][name][metric] == best


def test_what_was_predicted_before_is_not_predicted_again(selecting, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fmn.evaluation.evaluate", lambda *_, **__: pytest.fail("predicted"))
        assert selecting.computed() == {"evaluate": 11}
    assert selecting.computed() == {}
    report, at_once = zoo_report(selecting.open(), selecting.store), measured_anew(selecting)
    assert [(row.scores, row.choice, row.intervals) for row in report.rows] == at_once


def measured_anew(lab: Lab):
    """What a store says of the zoo that never saw it undivided."""
    store = lab.store
    for record in store.all("evaluate").values():
        store.drop(record.address)
    assert lab.computed()["evaluate"] == 11
    report = zoo_report(lab.open(), lab.store)
    return [(row.scores, row.choice, row.intervals) for row in report.rows]


def test_predictions_of_weights_that_are_others_now_are_not_taken(selecting):
    """A merge whose record says other weights than the evaluation was made of is measured."""
    graph, store = selecting.open(), selecting.store
    step = graph.step(next(iter(graph.of("evaluate"))))
    assert step._parted(store) is not None
    record = store.get("merge", step.merge.key)
    store.files.write(
        record.path,
        record.model_copy(update={"value": {**record.value, "backbone": "0" * 64}}).to_bytes(),
    )
    assert step._parted(selecting.store) is None


def test_keys_and_records_are_what_they_were_where_nobody_selects(ran):
    graph, store = ran.open(), ran.store
    record = store.get("evaluate", graph.step(next(iter(graph.of("individual")))).key)
    assert "select" not in record.inputs["measure"]
    assert "selection" not in record.value
    report = zoo_report(graph, store)
    assert not report.is_chosen_elsewhere
    assert "choice" not in report.as_json()["merges"][0]


@pytest.fixture
def by_luck() -> ZooReport:
    """Of each pair, one merge is best on the rows that choose, and another on those reported."""
    own = {"a": 0.8, "b": 0.8}
    lucky = Row("lucky", {"a": 0.8, "b": 0.8}, choice=0.7)
    chosen = Row("chosen", {"a": 0.4, "b": 0.8}, choice=0.9)
    return ZooReport(own, [lucky, chosen], {})


def test_the_best_is_the_one_that_was_chosen_and_its_score_the_other(by_luck):
    (best,) = by_luck.best()
    assert best.method == "chosen"
    assert by_luck.mean(best) == pytest.approx(0.75)
    assert by_luck.choice(best) == 0.9


def test_a_run_keeps_the_best_of_the_rows_that_choose(selecting, tmp_path):
    selecting.say("merge", keep="best")
    selecting.run()
    graph, store = selecting.open(), selecting.store
    report = zoo_report(graph, store)
    kept = set(to_keep(graph, report))
    assert {graph.step(each).key for each in kept} == store.keys("publish")
    for each in kept:
        same = [row for row in report.rows if row.scores.keys() == {*each.models}]
        assert max(report.choice(row) for row in same) == next(
            row.choice for row in same if row.method == each.variant
        )
    catalog = Catalog(store)
    best = catalog.best(["rte", "sst2"])
    listed = catalog.find(limit=100)
    assert best.mean(["rte", "sst2"], choice=True) == max(
        entry.mean(["rte", "sst2"], choice=True)
        for entry in listed
        if {"rte", "sst2"} <= set(entry.tasks)
    )
    assert best.is_chosen_elsewhere
    write_scores(graph, store, selecting.context(), tmp_path / "scores.json")
    write_leaderboard(tmp_path / "scores.json", tmp_path / "board")
    assert (tmp_path / "board" / "metrics.json").read_text().count(ELSEWHERE) == 2


FEW, NAMES = 12, ("rte", "sst2")
Bits = st.lists(st.integers(0, 1), min_size=FEW, max_size=FEW)
MERGES = [merge(NAMES, method) for method in METHODS]


def value(predicted: dict[str, Any], true: dict[str, Any], share: float) -> dict[str, Any]:
    """What a record says of these predictions."""
    scores = {
        name: parted(get_task(name), {"": Predictions.of(*map(np.array, (p, true[name])))}, share)
        for name, p in predicted.items()
    }
    return {
        "scores": {name: each.metrics for name, each in scores.items()},
        "examples": {name: each.examples for name, each in scores.items()},
        "selection": {
            "scores": {name: each.selection.metrics for name, each in scores.items()},
            "examples": {name: each.selection.examples for name, each in scores.items()},
        },
    }


def choices(own: Any, merged: Any, true: dict[str, Any], share: float) -> list[list[str]]:
    """The merges in the order in which a catalog and a leaderboard choose them."""
    alone = {name: value({name: own[name]}, true, share) for name in NAMES}
    values = [value(each, true, share) for each in merged]
    records = [individual(name, 0.0).model_copy(update={"value": alone[name]}) for name in NAMES]
    records += [
        evaluation(of, dict.fromkeys(NAMES, 0.0)).model_copy(update={"value": each})
        for of, each in zip(MERGES, values, strict=True)
    ]
    entries = join([*records, *MERGES]).values()
    orders = [[e.method for e in in_order(entries, by)] for by in ("mean", "worst", *NAMES)]
    chosen = [entry.mean(choice=True) for entry in entries]
    rows = [
        Row(entry.method, {n: s.value for n, s in entry.scores.items()}, choice=each)
        for entry, each in zip(entries, chosen, strict=True)
    ]
    individuals = {n: alone[n]["scores"][n]["accuracy"] for n in NAMES}
    best = ZooReport(individuals, rows, {}).best()
    return [*orders, [row.method for row in best]]


@settings(deadline=None)
@given(
    st.sampled_from([0.25, 0.5, 0.9]),
    st.fixed_dictionaries(dict.fromkeys(NAMES, st.tuples(Bits, Bits, Bits))),
    st.tuples(*[st.fixed_dictionaries(dict.fromkeys(NAMES, Bits))] * len(METHODS)),
)
def test_whatever_the_reported_labels_are_the_choice_is_the_same(share, of, merged):
    chooses = chosen_by(FEW, share)
    own = {name: predicted for name, (predicted, _, _) in of.items()}
    true = {name: np.array(labels) for name, (_, labels, _) in of.items()}
    other = {n: np.where(chooses, true[n], labels) for n, (_, _, labels) in of.items()}
    assert choices(own, merged, true, share) == choices(own, merged, other, share)


def test_it_would_not_be_if_the_reported_labels_chose():
    """The property above is one of the choice: scores that are shown do change."""
    chooses = chosen_by(FEW, 0.5)
    own = {name: np.ones(FEW, int) for name in NAMES}
    true = own
    other = {name: np.where(chooses, 1, 0) for name in NAMES}
    shown = [value(own, labels, 0.5)["scores"]["rte"]["accuracy"] for labels in (true, other)]
    assert shown == [1.0, 0.0]


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan"), "half"])
def test_a_share_is_between_none_and_all(lab, share):
    lab.say("evaluate", select=share)
    with pytest.raises(ParamsError, match=r"params\.yaml: evaluate\.select: "):
        lab.open()


def test_too_few_rows_to_part_are_named_with_how_many_it_takes(lab):
    lab.say("evaluate", limit=30, select=0.02)
    with pytest.raises(
        MergeError,
        match=r"sst2/validation has 30 rows to be measured \(limit: 30\), and select: 0\.02 leaves "
        r"some to choose by from 50 on; raise the limit, or leave select out",
    ):
        lab.open()
    lab.say("evaluate", select=0.5, limit=1)
    with pytest.raises(MergeError, match=r"has 1 row to be measured \(limit: 1\).* from 2 on"):
        lab.open()
    write_split(lab.world.data, "sst2", "validation", columns_of("sst2", 3, seed=2))
    lab.say("evaluate", select=0.25, limit=None)
    with pytest.raises(
        DataError, match=r"sst2/validation has 3 rows to be measured, and .* from 4 on; add rows"
    ):
        lab.open()


def test_the_further_splits_of_a_task_are_parted_too(lab):
    write_split(lab.world.data, "mnli", "validation_mismatched", columns_of("mnli", 1, seed=2))
    lab.say("evaluate", select=0.5)
    with pytest.raises(DataError, match="mnli/validation_mismatched has 1 row to be measured"):
        lab.open()
