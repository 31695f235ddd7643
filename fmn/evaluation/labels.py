"""Label maps: which label of the data each output of a model means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from fmn.errors import DataError, unknown
from fmn.evaluation.tasks import Task, normalize

_TRUTH = {True: {"yes", "true", "on"}, False: {"no", "false", "off"}}
_NUMBERED = re.compile(r"(?:label[\s_-]*)?(\d+)", re.IGNORECASE)


def label_order(
    task: Task, id2label: Mapping[Any, str], override: Mapping[str | int, str] | None = None
) -> tuple[int, ...]:
    """Return, for each output of the model, the DATA's number of the label it means.

    Names are matched without regard to case, spaces, ``-`` and ``_``. Names that say nothing
    (``LABEL_0``, ``1``) leave the outputs in the data's order. Of a language task there are none.

    Args:
        task: The task.
        id2label: The model's ``config.id2label``; keys are numbers, or text as in ``config.json``.
        override: The recipe's ``labels:`` map, from the model's names (or output numbers) to the
            task's label names.

    Raises:
        DataError: As many outputs as labels were expected (one for a regression), the names do not
            match one to one, or the override names something that is not there.
    """
    if override and not task.labels:
        kind = "language task" if task.is_language else "regression"
        raise DataError(
            f"task {task.name} is a {kind} and has no labels; remove `labels:` from the recipe"
        )
    if task.is_language:
        return ()
    names = _output_names(task, id2label)
    if task.is_regression:
        return (0,)
    numbers = [_find(name, task.labels) for name in names]
    overridden = _overridden(task, names, override or {})
    for output, number in overridden.items():
        numbers[output] = number
    if set(numbers) == set(range(len(names))):
        return tuple(number for number in numbers if number is not None)
    if set(numbers) == {None} and _say_nothing(names):
        return tuple(range(len(names)))
    raise DataError(_mismatch(task, names, numbers))


@dataclass(frozen=True)
class Permutation:
    """The label order that fits a sample best, beside the one that was given.

    Attributes:
        order: For each output, the data's label number; the given order if no other does better.
        accuracy: Accuracy with that order, in [0, 1].
        given: Accuracy with the given order, in [0, 1].
    """

    order: tuple[int, ...]
    accuracy: float
    given: float


def best_permutation(
    logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], order: Sequence[int]
) -> Permutation:
    """Find the permutation of outputs to labels of the highest accuracy, by linear assignment.

    Args:
        logits: [N, C], N ≥ 1.
        labels: [N], the data's label numbers.
        order: [C], the label order in use.
    """
    from scipy.optimize import linear_sum_assignment

    total, classes = logits.shape
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (logits.argmax(axis=1), labels), 1)
    outputs, best = linear_sum_assignment(counts, maximize=True)
    right, right_given = int(counts[outputs, best].sum()), int(counts[outputs, list(order)].sum())
    chosen = tuple(order) if right == right_given else tuple(int(number) for number in best)
    return Permutation(chosen, right / total, right_given / total)


def below_chance(accuracy: float, n: int, classes: int) -> bool:
    """Tell whether an accuracy in [0, 1] is over 3 standard deviations (n rows) below chance."""
    return accuracy < 1 / classes - 3 * chance_deviation(n, classes)


def chance_deviation(n: int, classes: int) -> float:
    """Return the standard deviation (binomial) of the accuracy of even guesses on n rows."""
    chance = 1 / classes
    return sqrt(chance * (1 - chance) / n)


def recipe_line(names: Sequence[str], labels: Sequence[str]) -> str:
    """Return the recipe's ``labels:`` map from the model's names to labels, as one line of YAML.

    Output numbers stand in where the model's names repeat; a name like ``yes`` comes out quoted.
    """
    import yaml

    keys = names if len(set(names)) == len(names) else range(len(names))
    mapping = dict(zip(keys, labels, strict=True))
    flow = yaml.safe_dump(
        mapping, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return f"labels: {flow.strip()}"


def _output_names(task: Task, id2label: Mapping[Any, str]) -> list[str]:
    expected = max(len(task.labels), 1)
    names = {int(output): str(name) for output, name in id2label.items()}
    if sorted(names) != list(range(expected)):
        wants = (
            f"the {expected} labels {', '.join(task.labels)}"
            if task.labels
            else "one number (a regression)"
        )
        raise DataError(
            f"task {task.name} has {wants}, but the model has {len(names)} outputs "
            f"({', '.join(names.values())}); is this checkpoint fine-tuned for {task.name}?"
        )
    return [names[output] for output in range(expected)]


def _overridden(
    task: Task, names: Sequence[str], override: Mapping[str | int, str]
) -> dict[int, int]:
    numbers: dict[int, int] = {}
    for key, label in override.items():
        output, number = _find(key, names, numbered=True), _find(label, task.labels)
        if output is None:
            raise DataError(
                unknown("model label", str(key), names, "mend the keys of `labels:` in the recipe")
            )
        if number is None:
            raise DataError(
                unknown(
                    f"{task.name} label",
                    str(label),
                    task.labels,
                    "mend the values of `labels:` in the recipe",
                )
            )
        if output in numbers:
            raise DataError(
                f"`labels:` in the recipe names output {output} ({names[output]}) of the model "
                "twice"
            )
        numbers[output] = number
    return numbers


def _find(name: str | int, names: Sequence[str], *, numbered: bool = False) -> int | None:
    """Return the position of a name, or of a position written as a number where that is allowed."""
    # YAML 1.1 reads a bare yes or no as a truth value.
    spellings = _TRUTH[name] if isinstance(name, bool) else {normalize(str(name))}
    for position, candidate in enumerate(names):
        if normalize(candidate) in spellings:
            return position
    if numbered and not isinstance(name, bool) and str(name).isdecimal() and int(name) < len(names):
        return int(name)
    return None


def _say_nothing(names: Sequence[str]) -> bool:
    matches = [_NUMBERED.fullmatch(name.strip()) for name in names]
    numbers = [int(match.group(1)) for match in matches if match]
    # Numbers out of order (LABEL_1, LABEL_0) may well mean a permutation: that is for a person to
    # say.
    return len(numbers) == len(names) and numbers == sorted(set(numbers))


def _mismatch(task: Task, names: Sequence[str], numbers: Sequence[int | None]) -> str:
    left = iter([label for number, label in enumerate(task.labels) if number not in numbers])
    guess = [
        next(left) if number is None or number in numbers[:output] else task.labels[number]
        for output, number in enumerate(numbers)
    ]
    return (
        f"the model's labels ({', '.join(names)}) do not match those of task {task.name} "
        f"({', '.join(task.labels)}); "
        f"say in the recipe which is which, for instance `{recipe_line(names, guess)}`"
    )
