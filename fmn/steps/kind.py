"""Kinds of steps: what a run of a zoo has to know of each, and how their steps are referred to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from fmn.merging import Variant
from fmn.params import Params
from fmn.steps.step import Step


class Reference(NamedTuple):
    """A step by words that travel between processes.

    Attributes:
        kind: the name of its :class:`StepKind`.
        models: the names of the models that it is about, in the order of the zoo.
        variant: of a merge, the label of its :class:`fmn.merging.Variant`; of a statistic, its
            name.
    """

    kind: str
    models: tuple[str, ...]
    variant: str = ""


class OpenedZoo(Protocol):
    """What kinds of steps read of a zoo; see :class:`fmn.steps.zoo.zoo.Zoo`."""

    @property
    def params(self) -> Params:
        """Its description."""

    @property
    def variants(self) -> Mapping[str, Variant]:
        """The methods with their parameters, by label."""

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of the statistics that the methods need."""

    @property
    def members(self) -> Mapping[str, Any]:
        """The models that can be merged, by name."""

    @property
    def measures(self) -> Mapping[str, Any]:
        """How each model is measured, by name."""

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Iterate over the sets of models that are to be merged."""

    def merge(self, names: tuple[str, ...], label: str) -> Any:
        """Return the step of one merge."""

    def evaluation(self, merge: Any) -> Any:
        """Return the step that measures a merge."""


class Steps(Protocol):
    """What kinds of steps read of the graph; see :class:`fmn.steps.zoo.graph.Graph`."""

    @property
    def zoo(self) -> OpenedZoo:
        """The zoo."""

    def merge(self, reference: Reference) -> Any:
        """Return the merge that a step is about."""


@dataclass(frozen=True)
class StepKind:
    """What a run has to know of one kind of step.

    Attributes:
        name: in references.
        record: the kind of its records, by which runs are counted.
        heading: what plans call its steps.
        noun: what people call one result of it.
        references: iterates over its steps in a zoo.
        step: returns one of them.
        needs: returns the steps whose results it reads.
        aspects: what of a model, or of all merges, makes its steps be computed when it changed: a
            plan names these as reasons.
        of_merges: its steps are about merges, one for each.
        looked_for: a result that is in the store is looked at all the same, and repaired.
        late: which of its steps are done is decided when all others are done.
    """

    name: str
    record: str
    heading: str
    noun: str
    references: Callable[[OpenedZoo], Iterator[Reference]]
    step: Callable[[Steps, Reference], Step]
    needs: Callable[[OpenedZoo, Reference], tuple[Reference, ...]] = lambda zoo, reference: ()
    aspects: tuple[str, ...] = ()
    of_merges: bool = False
    looked_for: bool = False
    late: bool = False


def of_every_merge(kind: str) -> Callable[[OpenedZoo], Iterator[Reference]]:
    """Return an iteration over one step of a kind for every merge of a zoo."""

    def references(zoo: OpenedZoo) -> Iterator[Reference]:
        return (
            Reference(kind, names, label) for names in zoo.combinations() for label in zoo.variants
        )

    return references


def the_merge(zoo: OpenedZoo, reference: Reference) -> tuple[Reference, ...]:
    """Return the merge that a step is about: all that it needs."""
    return (reference._replace(kind="merge"),)
