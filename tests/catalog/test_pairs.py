"""How sure scores and their differences are, against loops over resamples."""

from __future__ import annotations

import numpy as np
import pytest

from fmn.catalog import Catalog, against, against_own, mean_interval, model_card, pairs, read_paired
from fmn.catalog.pairs import MEAN
from fmn.evaluation import Predicted, Predictions, chance, interval, resampled, write_predictions
from fmn.report import read_report
from tests.catalog.conftest import (
    PAIR,
    PLAIN,
    THREE,
    evaluation,
    individual,
    put,
)

RANDOM = np.random.default_rng(0)
TRUE = {name: RANDOM.integers(0, 2, 300).astype(np.int16) for name in ("rte", "sst2")}
ROUNDS = 1_000


def guesses(name, right, seed):
    """Predictions of which a share is right, on the same examples wherever they are as good."""
    is_right = np.random.default_rng(seed).permutation(300) < 300 * right
    return np.where(is_right, TRUE[name], 1 - TRUE[name]).astype(np.int16)


OWN = {"rte": guesses("rte", 0.52, 1), "sst2": guesses("sst2", 0.9, 2)}
MERGED = {"rte": guesses("rte", 0.52, 1), "sst2": guesses("sst2", 0.8, 3)}
OTHER = {"rte": guesses("rte", 0.5, 4), "sst2": guesses("sst2", 0.6, 5)}


def with_predictions(store, record, predicted, folder):
    """Return a record as the steps write it: with intervals, chance, and a file."""
    drawn = {n: resampled(["accuracy"], p, TRUE[n])["accuracy"] for n, p in predicted.items()}
    file = folder / f"{record.key}.safetensors"
    write_predictions(
        file,
        {n: Predicted({"": Predictions.of(p, TRUE[n])}, drawn[n]) for n, p in predicted.items()},
    )
    value = {
        "scores": {n: {"accuracy": float((p == TRUE[n]).mean())} for n, p in predicted.items()},
        "examples": dict.fromkeys(predicted, 300),
        "intervals": {n: {"accuracy": list(interval(values))} for n, values in drawn.items()},
        "chance": {n: {"accuracy": chance("accuracy", TRUE[n])} for n in predicted},
    }
    return record.model_copy(
        update={"value": value, "outputs": {"predictions": store.objects.add(file)}}
    )


@pytest.fixture
def measured(store, tmp_path):
    """Two merges and their models, with predictions; a third merge of an earlier version."""
    records = [individual(name, 0.0) for name in OWN]
    alone = [
        with_predictions(store, record, {name: OWN[name]}, tmp_path)
        for record, name in zip(records, OWN, strict=True)
    ]
    merges = [
        with_predictions(store, evaluation(of, dict.fromkeys(by, 0.0)), by, tmp_path)
        for of, by in ((PAIR, MERGED), (PLAIN, OTHER))
    ]
    old = evaluation(THREE, {"mrpc": 0.4, "rte": 0.6, "sst2": 0.9})
    put(store, [PAIR, PLAIN, THREE, *alone, *merges, old])
    return Catalog(store)


def means(predicted, names=("rte", "sst2")):
    """The mean normalised score on each resample, one after the other."""
    drawn = {
        n: [resampled(["accuracy"], p[n], TRUE[n])["accuracy"] for p in (predicted, OWN)]
        for n in names
    }
    return np.array(
        [np.mean([drawn[n][0][b] / drawn[n][1][b] for n in names]) for b in range(ROUNDS)]
    )


def ends(values):
    return pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-6)


def test_a_score_has_its_interval_and_chance(measured):
    described = measured[PAIR.key].as_json()["scores"]
    for name, score in described.items():
        values = resampled(["accuracy"], MERGED[name], TRUE[name])["accuracy"]
        assert score["interval"] == ends(values)
        assert score["chance"] == max(TRUE[name].mean(), 1 - TRUE[name].mean())
    old = measured[THREE.key].as_json()
    assert {(s["interval"], s["chance"]) for s in old["scores"].values()} == {(None, None)}


def test_the_mean_has_one_of_the_same_resamples(measured):
    entry = measured[PAIR.key]
    assert mean_interval(entry, read_paired(measured.store, entry)) == ends(means(MERGED))
    assert pairs.as_json(measured.store, entry)["mean_interval"] == ends(means(MERGED))
    old = measured[THREE.key]
    assert mean_interval(old, read_paired(measured.store, old)) is None


def test_a_model_at_chance_is_named_and_left_out(measured):
    entry = measured[PAIR.key]
    assert entry.at_chance() == ["rte"]
    sst2 = entry.scores["sst2"]
    assert entry.mean_above_chance() == sst2.value / sst2.individual["accuracy"]
    assert entry.mean() == (1 + entry.mean_above_chance()) / 2
    described = entry.as_json()
    assert described["at_chance"] == ["rte"]
    assert described["mean_above_chance"] == entry.mean_above_chance()
    assert measured[THREE.key].at_chance() is None
    assert measured[THREE.key].mean_above_chance() is None


def test_a_merge_is_compared_with_its_models_on_the_same_resamples(measured):
    entry = measured[PAIR.key]
    apart = against_own(entry, read_paired(measured.store, entry))
    assert apart["rte"].interval == (0, 0)  # it predicts what the model does
    assert apart["rte"].is_inside
    drawn = [resampled(["accuracy"], p["sst2"], TRUE["sst2"])["accuracy"] for p in (MERGED, OWN)]
    assert apart["sst2"].interval == ends(drawn[0] - drawn[1])
    assert apart["sst2"].value == pytest.approx(-0.1)
    assert not apart["sst2"].is_inside


def test_merges_are_compared_on_the_same_resamples(measured):
    first, other, old = (
        (measured[of.key], read_paired(measured.store, measured[of.key]))
        for of in (PAIR, PLAIN, THREE)
    )
    apart = against(first, other)
    assert list(apart) == ["rte", "sst2", MEAN]
    drawn = [resampled(["accuracy"], p["rte"], TRUE["rte"])["accuracy"] for p in (OTHER, MERGED)]
    assert apart["rte"].interval == ends(drawn[0] - drawn[1])
    assert (apart["rte"].is_inside, apart["sst2"].is_inside) == (True, False)
    assert apart[MEAN].interval == ends(means(OTHER) - means(MERGED))
    assert apart[MEAN].value == other[0].mean() - first[0].mean()
    assert against(first, old) == against(old, first) == {}


def test_predictions_that_are_lost_or_no_such_file_are_no_interval(measured, tmp_path):
    entry, store = measured[PAIR.key], measured.store
    output = entry.evaluations[0].record.outputs["predictions"]
    store.objects.delete(output.md5)
    assert read_paired(store, entry).merged == {}
    assert mean_interval(entry, read_paired(store, entry)) is None
    assert entry.scores["sst2"].as_json()["interval"] is not None


def test_a_listing_reads_no_predictions(measured, monkeypatch):
    monkeypatch.setattr(type(measured.store), "path", lambda *_: pytest.fail("read"))
    for entry in measured.find():
        entry.as_json()


def test_the_report_says_the_same(measured):
    report = read_report(measured)
    shown = {merge.key: merge for merge in report.merges}
    both = [
        (measured[of.key], read_paired(measured.store, measured[of.key])) for of in (PAIR, PLAIN)
    ]
    for entry, paired in both:
        merge = shown[entry.id]
        assert merge.interval == mean_interval(entry, paired)
        apart = against_own(entry, paired)
        for member in merge.members:
            score, difference = entry.scores[member.name], apart[member.name]
            assert member.intervals == {"accuracy": tuple(score.intervals["accuracy"])}
            assert member.own_interval == tuple(score.own_intervals["accuracy"])
            assert member.chance == score.chance["accuracy"]
            assert member.apart.model_dump() == difference.as_json() | {
                "interval": difference.interval
            }
        assert merge.at_chance == ("rte",)
        assert merge.mean_above_chance == entry.mean_above_chance()
    best, other = shown[PAIR.key], shown[PLAIN.key]
    assert (best.is_best, best.from_best, other.is_best) == (True, None, False)
    (apart,) = [against(*both)[MEAN]]
    assert other.from_best.value == apart.value
    assert other.from_best.interval == pytest.approx(apart.interval, abs=1e-6)
    old = shown[THREE.key]
    assert (old.interval, old.is_best, old.members[0].intervals) == (None, False, {})
    alone = {model.name: model for model in report.models}
    assert (alone["rte"].at_chance, alone["sst2"].at_chance) == (True, False)


def test_the_report_of_too_many_merges_reads_no_predictions(measured, monkeypatch):
    monkeypatch.setattr("fmn.report.collect.MOST", 2)
    monkeypatch.setattr(type(measured.store), "path", lambda *_: pytest.fail("read"))
    report = read_report(measured)
    assert {merge.interval for merge in report.merges} == {None}
    assert any(member.intervals for merge in report.merges for member in merge.members)


def test_a_card_shows_it(measured):
    card = model_card(measured[PAIR.key], {})
    low, high = measured[PAIR.key].scores["sst2"].intervals["accuracy"]
    assert f"| sst2 | accuracy | 80.00 | {100 * low:.2f} to {100 * high:.2f} |" in card
    assert "No better than chance alone: rte; without, the mean is 88.89 %." in card
    assert "| 90.00 | no interval |  |" in model_card(measured[THREE.key], {})
