"""The figures of the paper's three tables, as printed; ``SOURCE.md`` says where they are from.

Thennal D K, Ganesh Nathan, Suchithra M S: *Fisher Mask Nodes for Language Model Merging*.
LREC-COLING 2024, pages 7349–7355, https://aclanthology.org/2024.lrec-main.647,
https://arxiv.org/abs/2403.09891.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

EXAMPLES = 128
"""Of a Fisher whose seconds are in tables 2 and 3."""

STATED_GAIN = 6.5
"""Points of the normalised score, the largest gain over averaging: the abstract."""

STATED_SPEED_UPS = (57.4, 321.7)
"""Seconds of the full Fisher / seconds of the mask Fisher, by model from and to: the abstract."""

METHODS = {"averaging": "average"}
"""What fmn calls a method, where the paper's table has another word."""

ByModel = Mapping[str, float]
"""A figure for each of the paper's models."""


@dataclass(frozen=True)
class Paper:
    """The paper's tables.

    Attributes:
        models: in the paper's order.
        normalised: table 1, by method and examples of a Fisher (null: none): the normalised score
            over all pairs, %.
        seconds: tables 2 and 3, by method and task: of a Fisher over 128 examples.
        means: by method, the means over tasks that are printed below these two.
    """

    models: tuple[str, ...]
    normalised: Mapping[tuple[str, int | None], ByModel]
    seconds: Mapping[str, Mapping[str, ByModel]]
    means: Mapping[str, ByModel]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those whose Fishers were timed; pairs of their models were merged."""
        return tuple(self.seconds["fisher"])

    def gains(self, method: str, examples: int | None) -> ByModel:
        """Return the points by which a method's normalised score is above averaging's."""
        base = self.normalised["average", None]
        return {m: value - base[m] for m, value in self.normalised[method, examples].items()}

    def speed_ups(self) -> Mapping[str, ByModel]:
        """Return seconds of the full Fisher / seconds of the mask Fisher, by task."""
        full, mask = self.seconds["fisher"], self.seconds["mask-fisher"]
        by_model = {
            model: speed_ups(
                {task: full[task][model] for task in self.tasks},
                {task: mask[task][model] for task in self.tasks},
            )
            for model in self.models
        }
        return {task: {m: ratios[task] for m, ratios in by_model.items()} for task in self.tasks}


def speed_ups(full: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the full Fisher's seconds / another's, of each task that both have, in its order.

    A speed-up over several tasks is the mean of these, and not the ratio of the means. What took no
    time that a clock saw has none.
    """
    return {task: full[task] / took for task, took in other.items() if task in full and took}


@cache
def read_paper() -> Paper:
    """Read the tables, which are files of this package."""
    normalised: dict[tuple[str, int | None], dict[str, float]] = {}
    for row in _rows("table1"):
        method = METHODS.get(row["method"], row["method"])
        examples = int(row["examples"]) if row["examples"] else None
        normalised.setdefault((method, examples), {})[row["model"]] = float(row["normalised"])
    tables = {"mask-fisher": "2", "fisher": "3"}
    seconds = {m: _by_model(f"table{number}", "task") for m, number in tables.items()}
    means = _by_model("means", "table")
    models = tuple(means["2"])
    return Paper(models, normalised, seconds, {m: means[number] for m, number in tables.items()})


def _by_model(name: str, heading: str) -> dict[str, dict[str, float]]:
    return {
        row.pop(heading): {model: float(value) for model, value in row.items()}
        for row in _rows(name)
    }


def _rows(name: str) -> list[dict[str, str]]:
    text = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
