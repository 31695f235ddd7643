"""One graph of a run: every step that a zoo's description asks for, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from fmn.steps.evaluate import INDIVIDUAL, MEASURED_MERGE
from fmn.steps.kind import Reference, StepKind
from fmn.steps.merge import KEPT_MERGE, MERGE, MergeStep
from fmn.steps.statistic import STATISTIC
from fmn.steps.step import Step
from fmn.steps.zoo.zoo import Zoo

KINDS: tuple[StepKind, ...] = (STATISTIC, INDIVIDUAL, MERGE, MEASURED_MERGE, KEPT_MERGE)
"""Every kind of step, in an order in which each comes after what it needs."""

NOUNS = {kind.record: kind.noun for kind in reversed(KINDS)}
"""What people call one result, by kind of record."""

RECORDS = tuple(reversed(NOUNS))
"""The kinds of records that runs are counted by, each after those that it is made of."""


REMEMBERED = 10_000
"""Steps that a graph has at a time: a large zoo has hundreds of thousands, and any can be made
again.
"""


@dataclass(frozen=True)
class Graph:
    """The steps of a zoo; each is made when it is asked for, and remembered for a while.

    Plans, runs in this process and in Prefect, stages of DVC and reproductions all read it.

    Attributes:
        zoo: opened and checked.
    """

    zoo: Zoo
    _steps: dict[Reference, Step] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def kinds(self) -> dict[str, StepKind]:
        """Every kind of step by its name."""
        return {kind.name: kind for kind in KINDS}

    def of(self, kind: str) -> Iterator[Reference]:
        """Iterate over the steps of a kind."""
        return self.kinds[kind].references(self.zoo)

    def step(self, reference: Reference) -> Step:
        """Return a step."""
        step = self._steps.get(reference)
        if step is None:
            step = self.kinds[reference.kind].step(self, reference)
            if len(self._steps) >= REMEMBERED:
                self._steps.pop(next(iter(self._steps)), None)
            self._steps[reference] = step
        return step

    def merge(self, reference: Reference) -> MergeStep:
        """Return the merge that a step is about."""
        step = self.step(reference._replace(kind="merge"))
        assert isinstance(step, MergeStep)
        return step

    def needs(self, reference: Reference) -> tuple[Reference, ...]:
        """Return the steps whose results a step reads."""
        return self.kinds[reference.kind].needs(self.zoo, reference)
