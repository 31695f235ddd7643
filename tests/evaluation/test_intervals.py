"""Intervals against loops over resamples and against scipy's bootstrap; chance against counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from fmn import checkpoint
from fmn.errors import CheckpointError, DataError
from fmn.evaluation import get_metric, intervals, register_metric
from fmn.evaluation.intervals import RESAMPLES, chance, interval, normalized_mean, resampled
from fmn.evaluation.metrics import _METRICS
from fmn.evaluation.predictions import (
    Predicted,
    Predictions,
    read_predictions,
    write_predictions,
)

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 200).astype(np.int16)
GUESSES = np.where(RANDOM.random(200) < 0.7, LABELS, RANDOM.integers(0, 3, 200)).astype(np.int16)
TARGETS = (RANDOM.integers(0, 26, 200) / 5).astype(np.float32)  # with ties, as STS-B's
ESTIMATES = (TARGETS + RANDOM.normal(size=200)).round(1).astype(np.float32)
OF_LABELS, OF_TARGETS = ("accuracy", "f1", "matthews"), ("pearson", "spearman")


def rows_of_resamples(references):
    """The examples of each resample, one list each."""
    for block in intervals._counts(references):
        for counts in block:
            yield np.repeat(np.arange(len(references)), counts.astype(int))


def sides(metric, labels=2):
    if metric in OF_TARGETS:
        return ESTIMATES, TARGETS
    return np.minimum(GUESSES, labels - 1), np.minimum(LABELS, labels - 1)


@pytest.mark.parametrize(
    ("metric", "labels"),
    [(name, 2) for name in (*OF_LABELS, *OF_TARGETS)] + [("accuracy", 3), ("matthews", 3)],
)
def test_each_value_is_the_metric_of_a_resample(metric, labels):
    predictions, references = sides(metric, labels)
    values = resampled([metric], predictions, references)[metric]
    assert values.shape == (RESAMPLES,)
    measure = get_metric(metric)
    expected = [measure(predictions[r], references[r]) for r in rows_of_resamples(references)]
    np.testing.assert_allclose(values, expected, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 7, 1_100])
def test_resamples_have_as_many_examples_as_the_split(size):
    counts = np.concatenate(list(intervals._counts(np.arange(size))))
    assert counts.shape == (RESAMPLES, size)
    assert (counts.sum(axis=1) == size).all()
    # of n examples drawn n times, each is missing with (1 - 1/n)^n
    assert (counts == 0).mean() == pytest.approx((1 - 1 / size) ** size, abs=0.02)


def test_large_splits_are_drawn_alike(monkeypatch):
    once = np.concatenate(list(intervals._counts(LABELS)))
    monkeypatch.setattr(intervals, "REMEMBERED", 0)
    np.testing.assert_array_equal(np.concatenate(list(intervals._counts(LABELS))), once)


@pytest.mark.parametrize("metric", [*OF_LABELS, *OF_TARGETS])
def test_the_interval_is_that_of_scipy(metric):
    predictions, references = sides(metric)
    measure = get_metric(metric)
    theirs = bootstrap(
        (predictions, references),
        lambda one, other: measure(one, other),
        paired=True,
        vectorized=False,
        n_resamples=2_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = interval(resampled([metric], predictions, references)[metric])
    # both are random: the ends of two bootstraps of this size differ by some twentieth
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_predictions_of_one_split_share_resamples_and_tasks_do_not():
    one, other = (resampled(["accuracy"], g, LABELS)["accuracy"] for g in (GUESSES, LABELS))
    (again,) = resampled(["accuracy"], GUESSES.astype(np.int64), LABELS.astype(np.int64)).values()
    np.testing.assert_array_equal(one, again)
    assert (other == 1).all()
    better = GUESSES.copy()
    better[np.flatnonzero(GUESSES != LABELS)[:5]] = LABELS[np.flatnonzero(GUESSES != LABELS)[:5]]
    paired = resampled(["accuracy"], better, LABELS)["accuracy"] - one
    assert (paired >= 0).all()  # it is right wherever the other is, in every resample
    assert np.ptp(paired) < np.ptp(one) / 2
    flipped = LABELS[::-1].copy()
    apart = resampled(["accuracy"], GUESSES[::-1], flipped)["accuracy"]
    assert abs(np.corrcoef(one, apart)[0, 1]) < 0.15


def test_where_a_resample_is_constant_values_are_those_of_the_metrics():
    references = np.array([0, 0, 0, 1], dtype=np.int16)
    for metric in OF_LABELS:
        measure = get_metric(metric)
        values = resampled([metric], references, references)[metric]
        expected = [measure(references[r], references[r]) for r in rows_of_resamples(references)]
        np.testing.assert_allclose(values, expected, atol=1e-12)
    targets = references.astype(np.float32) / 3
    for metric in OF_TARGETS:
        values = resampled([metric], targets, targets)[metric]
        constant = [np.ptp(targets[rows]) == 0 for rows in rows_of_resamples(targets)]
        assert 0.2 < np.mean(constant) < 0.4  # (3/4)^4
        np.testing.assert_allclose(values, 1.0 - np.array(constant), atol=1e-9)


@pytest.fixture
def metric_of_ones_own(monkeypatch):
    def register(metric):
        register_metric("own", metric)
        return "own"

    monkeypatch.setattr(_METRICS, "_items", dict(_METRICS._items))
    return register


def test_a_metric_of_ones_own_is_called_for_each_resample(metric_of_ones_own):
    name = metric_of_ones_own(
        lambda predictions, references: float((predictions == references).mean())
    )
    values = resampled([name, "accuracy"], GUESSES, LABELS)
    np.testing.assert_allclose(values[name], values["accuracy"], atol=1e-12)


@pytest.mark.parametrize("answer", [ValueError("one label alone"), float("nan")])
def test_a_metric_that_refuses_a_resample_has_no_interval(metric_of_ones_own, answer):
    def measure(predictions, references):
        if len(np.unique(references)) < 3 or len(np.unique(predictions)) < 3:
            if isinstance(answer, Exception):
                raise answer
            return answer
        return 1.0

    name = metric_of_ones_own(measure)
    few = np.array([0, 1, 2], dtype=np.int16)
    assert resampled([name], few, few) == {name: None}
    assert chance(name, few) is None


def test_chance_is_the_best_constant():
    labels = np.array([0, 1, 1, 1], dtype=np.int16)
    assert chance("accuracy", labels) == 3 / 4
    assert chance("f1", labels) == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert chance("f1", 1 - labels) == pytest.approx(2 * 1 / (2 * 1 + 3))
    assert chance("matthews", labels) == 0
    assert chance("pearson", TARGETS) == chance("spearman", TARGETS) == 0


def test_a_normalised_mean_is_that_of_each_resample():
    merged, own = RANDOM.random((2, 3, RESAMPLES))
    own[1] = 0
    values = normalized_mean(list(zip(merged, own, strict=True)))
    expected = [(merged[0, b] / own[0, b] + 0 + merged[2, b] / own[2, b]) / 3 for b in range(9)]
    np.testing.assert_allclose(values[:9], expected)


SIZES = RANDOM.integers(1, 9, 60)
TRUE = RANDOM.integers(0, 40, SIZES.sum()).astype(np.int16)
WRITTEN = np.where(RANDOM.random(SIZES.sum()) < 0.6, TRUE, 7).astype(np.int16)


def tokens_of_resamples():
    """The tokens of each resample of the texts, one list each."""
    starts = np.cumsum(SIZES) - SIZES
    for block in intervals._counts(TRUE, len(SIZES)):
        for counts in block:
            texts = np.repeat(np.arange(len(SIZES)), counts.astype(int))
            yield np.concatenate([np.arange(starts[t], starts[t] + SIZES[t]) for t in texts])


@pytest.mark.parametrize("metric", ["accuracy", "matthews"])
def test_texts_are_drawn_with_all_their_tokens(metric):
    values = resampled([metric], WRITTEN, TRUE, SIZES)[metric]
    expected = [get_metric(metric)(WRITTEN[t], TRUE[t]) for t in tokens_of_resamples()]
    np.testing.assert_allclose(values, expected, atol=1e-10)
    assert values.shape == (RESAMPLES,)


def test_a_text_whose_tokens_are_all_wrong_counts_as_one():
    """Of two texts, one right and one wrong, a quarter of the resamples has either twice."""
    sizes, true = np.array([30, 30]), np.arange(60, dtype=np.int16)
    written = np.where(true < 30, true, 0).astype(np.int16)
    values = resampled(["accuracy"], written, true, sizes)["accuracy"]
    assert {*np.round(values, 9)} == {0.0, 0.5, 1.0}
    assert interval(values) == (0.0, 1.0)


def test_chance_of_tokens_is_the_commonest():
    tokens = np.array([5, 5, 5, 2, 9], dtype=np.int16)
    assert chance("accuracy", tokens, of_tokens=True) == chance("accuracy", tokens) == 3 / 5


def test_some_examples_are_taken_with_all_their_tokens():
    which = np.zeros(len(SIZES), dtype=bool)
    which[[3, 5]] = True
    starts = np.cumsum(SIZES) - SIZES
    part = Predictions.of(WRITTEN, TRUE, SIZES).take(which)
    expected = np.concatenate([np.arange(starts[t], starts[t] + SIZES[t]) for t in (3, 5)])
    np.testing.assert_array_equal(part.predicted, WRITTEN[expected])
    np.testing.assert_array_equal(part.references, TRUE[expected])
    assert part.lengths.tolist() == SIZES[[3, 5]].tolist()
    assert len(part) == 2


def test_predictions_come_back_as_they_were_written(tmp_path):
    tasks = {
        "mnli": Predicted(
            {"": Predictions.of(GUESSES, LABELS), "mismatched": Predictions.of(LABELS, LABELS)},
            RANDOM.random(RESAMPLES),
        ),
        "stsb": Predicted({"": Predictions.of(ESTIMATES, TARGETS)}),
        "texts": Predicted({"": Predictions.of(WRITTEN, TRUE, SIZES)}),
    }
    write_predictions(tmp_path / "file", tasks)
    read = read_predictions(tmp_path / "file")
    assert list(read) == ["mnli", "stsb", "texts"]
    for name, task in tasks.items():
        assert read[name].splits.keys() == task.splits.keys()
        for suffix, each in task.splits.items():
            for got, wanted in zip(
                vars(read[name].splits[suffix]).values(), vars(each).values(), strict=True
            ):
                if wanted is None:
                    assert got is None
                    continue
                assert got.dtype == wanted.dtype
                np.testing.assert_array_equal(got, wanted)
    np.testing.assert_allclose(read["mnli"].resampled, tasks["mnli"].resampled, atol=1e-7)
    assert read["stsb"].resampled is None


def test_resamples_of_another_version_are_not_compared(tmp_path, monkeypatch):
    task = Predicted({"": Predictions.of(GUESSES, LABELS)}, RANDOM.random(RESAMPLES))
    monkeypatch.setattr("fmn.evaluation.predictions.ALGORITHM", 99)
    write_predictions(tmp_path / "file", {"sst2": task})
    assert read_predictions(tmp_path / "file")["sst2"].resampled is not None
    monkeypatch.undo()
    assert read_predictions(tmp_path / "file")["sst2"].resampled is None


def test_what_is_no_file_of_predictions_is_refused(tmp_path):
    checkpoint.write(tmp_path / "file", {"predictions/sst2": LABELS, "references/sst2": LABELS[1:]})
    with pytest.raises(DataError, match="holds no predictions: predictions/sst2 has no references"):
        read_predictions(tmp_path / "file")
    sizes = {"lengths/texts": SIZES[1:].astype(np.int32)}
    checkpoint.write(
        tmp_path / "tokens", {"predictions/texts": TRUE, "references/texts": TRUE, **sizes}
    )
    with pytest.raises(DataError, match=r"predictions/texts has \d+ tokens, and their examples"):
        read_predictions(tmp_path / "tokens")
    (tmp_path / "text").write_text("none")
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        read_predictions(tmp_path / "text")
