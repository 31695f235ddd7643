"""Scores, and what explains the bad ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fmn.errors import DataError, ParamsError
from fmn.evaluation import (
    EncodedCache,
    Scores,
    Task,
    below_chance,
    evaluate,
    explain_below_chance,
    get_task,
    label_order,
    predict,
    score,
    validation_splits,
)

from .conftest import make_bert, make_encoded

MNLI, MRPC, STSB = map(get_task, ("mnli", "mrpc", "stsb"))
LOGITS = np.array(
    [[2, 1, 0], [0, 1, 2], [0, 2, 1], [5, 1, 2]], dtype=np.float32
)  # outputs 0, 2, 1, 0


@pytest.mark.parametrize(
    ("order", "expected"), [((0, 1, 2), 0.75), ((2, 1, 0), 0.25), ((2, 0, 1), 0.0)]
)
def test_predictions_go_through_the_label_order(order: tuple[int, ...], expected: float) -> None:
    assert score(MNLI, LOGITS, np.array([0, 2, 1, 1]), order) == {"accuracy": expected}


def test_metrics_come_in_the_tasks_order() -> None:
    metrics = score(MRPC, LOGITS[:, :2], np.array([0, 1, 0, 0]), (0, 1))
    assert list(metrics) == ["accuracy", "f1"]
    assert metrics == {"accuracy": 0.75, "f1": pytest.approx(2 / 3)}


def test_a_regression_reads_its_one_output() -> None:
    assert score(STSB, LOGITS[:, :1], np.array([4, 0, 0, 10], dtype=np.float32), (0,)) == {
        "pearson": pytest.approx(1),
        "spearman": pytest.approx(1),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_no_score(value: float) -> None:
    logits = LOGITS.copy()
    logits[1:3, 1] = value
    with pytest.raises(DataError, match="NaN or infinite logits for 2 of 4 examples of task mnli"):
        score(MNLI, logits, np.array([0, 2, 1, 1]), (0, 1, 2))


def test_outputs_that_do_not_fit_the_task() -> None:
    with pytest.raises(
        DataError, match=r"task mrpc needs 2 outputs, but the logits have shape \(4, 3\)"
    ):
        score(MRPC, LOGITS, np.array([0, 1, 0, 0]), (0, 1))


def test_a_metric_that_does_not_fit_the_task() -> None:
    task = Task.model_validate(MNLI.model_dump() | {"metrics": ("f1",)})
    message = "metric f1 does not fit task mnli: it is for the labels 0 and 1, and there are 0"
    with pytest.raises(DataError, match=message):
        score(task, LOGITS, np.array([0, 2, 1, 1]), (0, 1, 2))


def test_evaluate_is_predict_and_score() -> None:
    model, encoded = make_bert(), make_encoded([3, 9, 4, 4, 6], [0, 1, 2, 0, 1])
    scores = evaluate(model, encoded, MNLI, label_order=(1, 0, 2), batch_size=2)
    assert scores.metrics == score(MNLI, predict(model, encoded), encoded.labels, (1, 0, 2))
    assert (scores.task, scores.split, scores.examples) == ("toy", "validation", 5)
    assert scores.seconds > 0
    assert scores.headline == scores.metrics["accuracy"]


def test_an_unknown_metric_costs_no_prediction() -> None:
    task = Task.model_validate(MNLI.model_dump() | {"metrics": ("accuracy", "acuracy")})
    with pytest.raises(ParamsError, match="unknown metric 'acuracy'"):
        evaluate(make_bert(), make_encoded([], []), task, label_order=(0, 1, 2))


def test_a_damaged_model_has_no_score() -> None:
    model = make_bert()
    torch.nn.init.constant_(model.classifier.weight, float("nan"))
    with pytest.raises(DataError, match="NaN or infinite logits for 2 of 2"):
        evaluate(model, make_encoded([3, 4], [0, 1]), MNLI, label_order=(0, 1, 2))


def test_names_of_a_further_split() -> None:
    scores = Scores("mnli", "validation_mismatched", {"accuracy": 0.5, "f1": 0.25}, 4, 0.1)
    assert scores.named("mismatched") == {"accuracy_mismatched": 0.5, "f1_mismatched": 0.25}
    assert scores.named("") == scores.metrics


class TestExplainBelowChance:
    """The model is the truth: labels are what it says, read in an order that is wrong on
    purpose."""

    truth = (2, 0, 1)

    @pytest.fixture
    def sample(self) -> tuple[torch.nn.Module, object]:
        model = make_bert(seed=3)
        encoded = make_encoded([5 + row % 7 for row in range(120)], [0] * 120)
        labels = np.array(self.truth)[predict(model, encoded).argmax(1)]
        assert set(labels) == {0, 1, 2}
        return model, dataclasses.replace(encoded, labels=labels)

    def test_it_names_the_permutation_both_accuracies_and_the_remedy(self, sample: tuple) -> None:
        model, encoded = sample
        text = explain_below_chance(model, encoded, MNLI, (0, 1, 2))
        assert text is not None
        assert "mnli: accuracy is below chance" in text
        assert (
            "on 120 training examples it is 0.0% with the labels as read, and 100.0% with" in text
        )
        assert "`labels: {LABEL_0: contradiction, LABEL_1: entailment, LABEL_2: neutral}`" in text
        assert "\n" not in text

    def test_the_right_order_needs_no_explanation(self, sample: tuple) -> None:
        model, encoded = sample
        assert explain_below_chance(model, encoded, MNLI, self.truth) is None

    def test_noise_is_not_explained(self, sample: tuple) -> None:
        model, encoded = sample
        random = dataclasses.replace(
            encoded, labels=np.random.default_rng(0).integers(0, 3, size=120)
        )
        assert explain_below_chance(model, random, MNLI, (0, 1, 2)) is None

    def test_a_regression_has_no_chance(self) -> None:
        assert explain_below_chance(make_bert(1), make_encoded([3], [0.5]), STSB, (0,)) is None


def test_a_real_model_scores_what_the_golden_numbers_say(shared: Path, zoo: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(zoo / "rte")
    tokenizer = AutoTokenizer.from_pretrained(zoo / "rte")
    task, source = get_task("rte"), str(shared / "glue")
    (split,) = validation_splits(source, task).values()
    encoded = EncodedCache().get(tokenizer, source, task, split, max_length=128)
    scores = evaluate(model, encoded, task, label_order=label_order(task, model.config.id2label))
    golden = json.loads((shared / "golden" / "pairs.json").read_text())["individual"]["rte"]
    assert round(100 * scores.headline, 2) == golden
    assert not below_chance(scores.headline, scores.examples, len(task.labels))
