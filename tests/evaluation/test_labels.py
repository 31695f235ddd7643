"""Label maps: permutations are found, and never guessed in silence."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn.errors import DataError
from fmn.evaluation import Task, below_chance, best_permutation, get_task, label_order, recipe_line

MNLI, RTE, STSB = get_task("mnli"), get_task("rte"), get_task("stsb")


def numbered(*names: str) -> dict[int, str]:
    return dict(enumerate(names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("entailment", "neutral", "contradiction"), (0, 1, 2)),
        (("contradiction", "entailment", "neutral"), (2, 0, 1)),
        (("CONTRADICTION", "Neutral", "entail-ment"), (2, 1, 0)),
        (("LABEL_0", "LABEL_1", "LABEL_2"), (0, 1, 2)),
        (("0", "1", "2"), (0, 1, 2)),
        (("label 1", "label 2", "label 3"), (0, 1, 2)),
    ],
)
def test_mnli(names: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert label_order(MNLI, numbered(*names)) == expected


@pytest.mark.parametrize(
    "name", ["not_entailment", "not entailment", "NOT-ENTAILMENT", " Not_Entailment "]
)
def test_names_match_but_for_case_and_separators(name: str) -> None:
    assert label_order(RTE, numbered(name, "ENTAILMENT")) == (1, 0)


def test_keys_may_be_text_and_in_any_order() -> None:
    assert label_order(RTE, {"1": "entailment", "0": "not_entailment"}) == (1, 0)


def test_a_regression_has_one_output() -> None:
    assert label_order(STSB, {0: "LABEL_0"}) == (0,)
    with pytest.raises(
        DataError, match=r"stsb has one number \(a regression\), but the model has 2 outputs"
    ):
        label_order(STSB, numbered("LABEL_0", "LABEL_1"))
    with pytest.raises(DataError, match="is a regression and has no labels; remove `labels:`"):
        label_order(STSB, {0: "LABEL_0"}, {"LABEL_0": "x"})


@pytest.mark.parametrize("id2label", [numbered("a", "b"), {0: "a", 1: "b", 3: "c"}, {}])
def test_outputs_and_labels_must_be_as_many(id2label: Mapping[int, str]) -> None:
    with pytest.raises(
        DataError, match="task mnli has the 3 labels entailment, neutral, contradiction"
    ):
        label_order(MNLI, id2label)


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (("yes", "no"), "labels: {'yes': entailment, 'no': not_entailment}"),
        (("true", "entailment"), "labels: {'true': not_entailment, entailment: entailment}"),
        (("entailment", "entailment"), "labels: {0: entailment, 1: not_entailment}"),
        (("LABEL_1", "LABEL_0"), "labels: {LABEL_1: entailment, LABEL_0: not_entailment}"),
    ],
)
def test_names_that_do_not_match_show_both_lists_and_what_to_write(
    names: tuple[str, str], advice: str
) -> None:
    with pytest.raises(DataError) as error:
        label_order(RTE, numbered(*names))
    message = str(error.value)
    assert (
        f"({', '.join(names)}) do not match those of task rte (entailment, not_entailment)"
        in message
    )
    assert f"`{advice}`" in message
    assert "\n" not in message


def test_some_names_matching_is_not_enough() -> None:
    with pytest.raises(DataError, match="do not match"):
        label_order(MNLI, numbered("entailment", "LABEL_1", "LABEL_2"))


@pytest.mark.parametrize(
    ("names", "override", "expected"),
    [
        (("yes", "no"), {"yes": "entailment", "no": "not_entailment"}, (0, 1)),
        (("yes", "no"), {True: "not_entailment", False: "entailment"}, (1, 0)),
        (("LABEL_0", "LABEL_1"), {"LABEL_0": "not_entailment", "LABEL_1": "entailment"}, (1, 0)),
        (("LABEL_0", "LABEL_1"), {0: "NOT ENTAILMENT", "1": "entailment"}, (1, 0)),
        (("entailment", "other"), {"other": "not_entailment"}, (0, 1)),
        (("entailment", "not_entailment"), {0: "not_entailment", 1: "entailment"}, (1, 0)),
    ],
)
def test_the_recipe_overrides(
    names: tuple[str, str], override: Any, expected: tuple[int, ...]
) -> None:
    assert label_order(RTE, numbered(*names), override) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"yess": "entailment"}, "unknown model label 'yess'; did you mean 'yes'?"),
        ({2: "entailment"}, "unknown model label '2'"),
        ({"yes": "entail"}, "unknown rte label 'entail'; did you mean 'entailment'?"),
        ({"yes": "entailment", 0: "not_entailment"}, "names output 0 (yes) of the model twice"),
        ({"yes": "entailment"}, "do not match"),
        ({"yes": "entailment", "no": "entailment"}, "do not match"),
    ],
)
def test_overrides_that_cannot_be(override: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        label_order(RTE, numbered("yes", "no"), override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.permutations(range(5)))
def test_any_permutation_of_names_is_found(order: list[int]) -> None:
    task = Task(
        name="five", columns=("text",), labels=("a", "b", "c", "d", "e"), metrics=("accuracy",)
    )
    names = [task.labels[number].upper() for number in order]
    assert label_order(task, numbered(*names)) == tuple(order)
    silent = numbered(*(f"LABEL_{number}" for number in range(5)))
    override = yaml.safe_load(recipe_line(list(silent.values()), names))["labels"]
    assert label_order(task, silent, override) == tuple(order)


@settings(max_examples=50)
@given(classes=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_best_permutation_is_the_best_of_all(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(40, classes)), random.integers(0, classes, size=40)
    order = tuple(int(number) for number in random.permutation(classes))

    def accuracy(order: tuple[int, ...]) -> float:
        return float(np.mean(np.array(order)[logits.argmax(1)] == labels))

    permutation = best_permutation(logits, labels, order)
    assert permutation.accuracy == pytest.approx(max(map(accuracy, permutations(range(classes)))))
    assert permutation.accuracy == pytest.approx(accuracy(permutation.order))
    assert permutation.given == pytest.approx(accuracy(order))
    assert permutation.order == order or permutation.accuracy > permutation.given


def test_below_chance_is_three_deviations() -> None:
    # 100 fair coins: standard deviation 0.05.
    assert not below_chance(0.3501, 100, 2)
    assert below_chance(0.3499, 100, 2)
    assert not below_chance(0.30, 100, 3)
