"""Metrics against their formulas, and where the formulas divide by nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics

from fmn.errors import ParamsError
from fmn.evaluation import get_metric, metric_names, register_metric
from fmn.evaluation.metrics import _METRICS

PREDICTED = np.array([1, 1, 0, 0, 1, 0, 1, 1])
TRUE = np.array([1, 0, 0, 1, 1, 0, 1, 0])  # tp 3, fp 2, fn 1, tn 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 5 / 8),
        ("f1", 2 * 3 / (2 * 3 + 2 + 1)),
        ("matthews", (3 * 2 - 2 * 1) / np.sqrt((3 + 2) * (3 + 1) * (2 + 2) * (2 + 1))),
    ],
)
def test_classification(name: str, expected: float) -> None:
    assert get_metric(name)(PREDICTED, TRUE) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:A single label:UserWarning")
@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_every_bit_is_that_of_scikit_learn(name: str) -> None:
    """By which earlier versions scored: what is in stores stays valid."""
    theirs = {
        "accuracy": sklearn.metrics.accuracy_score,
        "f1": lambda true, predicted: sklearn.metrics.f1_score(true, predicted, zero_division=0.0),
        "matthews": sklearn.metrics.matthews_corrcoef,
    }[name]
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 277, 9815):
        for labels in (1, 2) if name == "f1" else (1, 2, 3, 50):
            for _ in range(5):
                true = random.integers(labels, size=count)
                kept = random.random(count) < random.random()
                predicted = np.where(kept, true, random.integers(labels, size=count))
                assert get_metric(name)(predicted, true) == theirs(true, predicted)


@pytest.mark.parametrize(
    ("name", "side", "reason"),
    [
        ("f1", np.array([0, 1, 2]), "it is for the labels 0 and 1, and there are 0, 1, 2"),
        ("accuracy", np.array([0.5, 1.0]), "it is for labels, and these are real numbers"),
        ("matthews", np.array([0.5, 1.0]), "it is for labels, and these are real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, side: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        get_metric(name)(side, side)


def test_correlations() -> None:
    random = np.random.default_rng(0)
    predicted, true = random.normal(size=50), random.normal(size=50)
    assert get_metric("pearson")(predicted, true) == pytest.approx(
        np.corrcoef(predicted, true)[0, 1], abs=1e-12
    )
    ranks = [values.argsort().argsort() for values in (predicted, true)]
    assert get_metric("spearman")(predicted, true) == pytest.approx(
        np.corrcoef(*ranks)[0, 1], abs=1e-12
    )


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize("constant", [0, 1])
def test_a_correlation_with_a_constant_is_zero_without_a_warning(name: str, constant: int) -> None:
    side = np.full(8, constant, dtype=np.float32 if name != "matthews" else np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get_metric(name)(side, TRUE) == 0.0
        assert get_metric(name)(TRUE, side) == 0.0
        assert get_metric(name)(side, side) == 0.0


def test_f1_without_any_positive_is_zero_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get_metric("f1")(np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)) == 0.0


def test_names() -> None:
    assert metric_names() == ("accuracy", "f1", "matthews", "pearson", "spearman")
    with pytest.raises(
        ParamsError, match=r"unknown metric 'acuracy'; did you mean 'accuracy'\?.*register_metric"
    ):
        get_metric("acuracy")


def test_one_of_your_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_METRICS, "_items", dict(_METRICS._items))
    register_metric(
        "mean-error", lambda predictions, references: -float(abs(predictions - references).mean())
    )
    assert get_metric("mean-error")(np.array([1.0]), np.array([3.0])) == -2.0
    with pytest.raises(ParamsError, match="metric 'f1' is registered already"):
        register_metric("f1", get_metric("f1"))
