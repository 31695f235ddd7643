"""Where the merges of a run stand, against loops over resamples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fmn.evaluation import read_predictions, resampled
from fmn.steps.zoo import standing
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.standing import Standing, standings


def mean_of_resamples(store, report, row):
    """Compute the mean normalised score of a merge on each resample from what was predicted."""

    def drawn(output):
        return {
            name: resampled(["accuracy"], task.splits[""].predicted, task.splits[""].references)[
                "accuracy"
            ]
            for name, task in read_predictions(store.path(output)).items()
        }

    merged = drawn(row.predictions)
    own = {name: drawn(report.predictions[name])[name] for name in row.scores}
    return np.array([np.mean([merged[n][b] / own[n][b] for n in merged]) for b in range(1_000)])


def test_a_mean_and_its_distance_from_the_best_have_intervals(ran):
    store, report = ran.store, zoo_report(ran.open(), ran.store)
    means = [mean_of_resamples(store, report, row) for row in report.rows]
    places = standings(report, store).rows
    assert [each.mean for each in places] == [
        pytest.approx(np.percentile(mean, [2.5, 97.5]), abs=1e-6) for mean in means
    ]
    rows = list(zip(report.rows, means, places, strict=True))
    for row, mean, each in rows:
        same = [other for other in rows if other[0].scores.keys() == row.scores.keys()]
        best = max(same, key=lambda other: report.mean(other[0]))
        if row is best[0]:
            assert each.from_best is None
            continue
        low, high = np.percentile(mean - best[1], [2.5, 97.5])
        assert each.from_best.interval == pytest.approx((low, high), abs=1e-6)
        assert each.from_best.value == report.mean(row) - report.mean(best[0])
        assert each.is_inside == (low <= 0 <= high)
    assert sum(each.from_best is not None for each in places) == 4  # of two methods one is best


def test_methods_are_compared_on_the_models_that_both_merged(ran):
    store, report = ran.store, zoo_report(ran.open(), ran.store)
    rows = report.rows[1:]  # so that one method lacks a set
    report = replace(report, rows=rows)
    assert report.methods() == ["mask-fisher", "average"]
    places = standings(report, store)
    drawn = {(row.method, *row.scores): mean_of_resamples(store, report, row) for row in rows}
    means = {(row.method, *row.scores): report.mean(row) for row in rows}
    for method in report.methods():
        mine = [values for (each, *_), values in drawn.items() if each == method]
        ends = np.percentile(np.mean(mine, axis=0), [2.5, 97.5])
        assert places.methods[method].mean == pytest.approx(ends, abs=1e-6)
    best = max(report.methods(), key=report.mean_of)
    (other,) = set(report.methods()) - {best}
    assert places.methods[best].from_best is None
    both = [names for method, *names in drawn if method == "average"]
    assert len(both) == 3
    apart = np.mean([drawn[other, *names] - drawn[best, *names] for names in both], axis=0)
    difference = places.methods[other].from_best
    assert difference.interval == pytest.approx(np.percentile(apart, [2.5, 97.5]), abs=1e-6)
    expected = np.mean([means[other, *names] - means[best, *names] for names in both])
    assert difference.value == pytest.approx(expected)


def test_of_too_many_and_of_those_without_predictions_nothing_is_said(ran, monkeypatch):
    store, report = ran.store, zoo_report(ran.open(), ran.store)
    lost = report.rows[0].predictions
    store.objects.delete(lost.md5)
    places = standings(report, store).rows
    assert standings(report, store).methods[report.rows[0].method] == Standing()
    assert places[0] == Standing()
    assert all(each.mean for each in places[1:])
    monkeypatch.setattr(standing, "MOST", 7)
    monkeypatch.setattr(type(store), "path", lambda *_: pytest.fail("read"))
    assert standings(report, store).rows == [Standing()] * 8
    assert {*standings(report, store).methods.values()} == {Standing()}


def test_models_at_chance_are_named(ran):
    """Those of this world are always right; records are made to say otherwise."""
    graph, store = ran.open(), ran.store
    assert zoo_report(graph, store).at_chance == []
    step = graph.zoo.measures["rte"]
    record = store.get("evaluate", step.key)
    record.value["intervals"]["rte"]["accuracy"] = [0.5, 0.6]
    record.value["chance"]["rte"]["accuracy"] = 0.5
    store.files.write(record.path, record.to_bytes())
    assert zoo_report(graph, ran.store).at_chance == ["rte"]
