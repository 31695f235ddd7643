"""What every merge rule does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from fmn.merging import Part, Rule
from fmn.merging.rules import Array
from fmn.statistics import Gram

SHAPE = (6, 10)


class RuleSuite:
    """What a merge rule promises.

    Attributes:
        rule: the rule.
    """

    rule: Rule

    def statistic(self, name: str, random: np.random.Generator) -> Any:
        """Return what a statistic gives a rule for a parameter of ``SHAPE`` of one model.

        Built-in statistics are known here; a rule with one of its own says what it gets.
        """
        if name == "gram":
            inputs = random.normal(size=(3 * SHAPE[1], SHAPE[1]))
            return Gram((inputs.T @ inputs).astype(np.float32), axis=1)
        return np.exp(random.normal(size=(SHAPE[0], 1)))

    def part(self, seed: int = 0) -> Part:
        """Return a parameter of several models, and whatever else the rule asks for."""
        random = np.random.default_rng(seed)
        parent = random.normal(size=SHAPE).astype(np.float32)
        count = self.rule.models or 3
        return Part(
            name="layer.weight",
            tensors=tuple(
                (parent + 0.1 * random.normal(size=SHAPE)).astype(np.float32) for _ in range(count)
            ),
            weights=tuple(1.0 + number * self.rule.weighted for number in range(count)),
            statistics={
                name: tuple(self.statistic(name, random) for _ in range(count))
                for name in self.rule.statistics
            },
            parent=parent if self.rule.parent else None,
            models=tuple(f"{number}" * 64 for number in range(count)),
            parameters=self.rule.settings({}),
            inputs=1,
        )

    def test_the_result_is_a_parameter(self) -> None:
        """It has the models' shape, is finite, and is float32 or wider."""
        merged = self.rule.combine(self.part())
        assert merged.shape == SHAPE
        assert merged.dtype in (np.float32, np.float64)
        assert np.isfinite(merged).all()

    def test_the_same_part_gives_the_same_bytes(self) -> None:
        """Nothing but the part decides: no clock, no global generator, no state."""
        first = self.rule.combine(self.part())
        np.random.random()
        assert self.rule.combine(self.part()).tobytes() == first.tobytes()

    def test_what_it_is_given_stays_as_it_is(self) -> None:
        """Models are memory-mapped files."""
        part, untouched = self.part(), self.part()
        tensors, before = (
            [*each.tensors, *([] if each.parent is None else [each.parent])]
            for each in (part, untouched)
        )
        for tensor in tensors:
            tensor.setflags(write=False)
        self.rule.combine(part)
        for tensor, same in zip(tensors, before, strict=True):
            assert np.array_equal(tensor, same)

    def test_pieces_of_a_parameter_give_the_pieces_of_the_whole(self) -> None:
        """Unless it says that it must see wholes, it is called with some rows at a time."""
        if self.rule.whole:
            return
        part = self.part()
        whole = self.rule.combine(part)
        for rows in (slice(0, 2), slice(2, 6)):
            piece = replace(
                part,
                tensors=tuple(tensor[rows] for tensor in part.tensors),
                parent=None if part.parent is None else part.parent[rows],
                statistics={
                    name: tuple(_rows(each, rows) for each in values)
                    for name, values in part.statistics.items()
                },
            )
            assert np.array_equal(self.rule.combine(piece), whole[rows])

    def test_its_parameters_can_be_written_into_recipes_and_keys(self) -> None:
        """Their defaults are possible, plain, and come back as they went."""
        settings = self.rule.settings({})
        assert self.rule.settings(json.loads(json.dumps(settings))) == settings
        assert all(parameter.help for parameter in self.rule.parameters)

    def test_it_says_what_it_does(self) -> None:
        """Help, pages and cards show the summary."""
        assert self.rule.summary
        assert "\n" not in self.rule.help


def _rows(value: Any, rows: slice) -> Any:
    """Return what a statistic gives for some rows, if it lies along them."""
    along = isinstance(value, np.ndarray) and value.ndim and len(value) == SHAPE[0]
    return value[rows] if along else value


__all__ = ["SHAPE", "Array", "RuleSuite"]
