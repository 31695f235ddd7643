"""Kinds of steps: what a run of a zoo has to know of each, and how their steps are referred to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fmn.steps.step import Step

if TYPE_CHECKING:
    from fmn.steps.zoo.graph import Graph
    from fmn.steps.zoo.zoo import Zoo


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
    references: Callable[[Zoo], Iterator[Reference]]
    step: Callable[[Graph, Reference], Step]
    needs: Callable[[Zoo, Reference], tuple[Reference, ...]] = lambda zoo, reference: ()
    aspects: tuple[str, ...] = ()
    of_merges: bool = False
    looked_for: bool = False
    late: bool = False


def of_every_merge(kind: str) -> Callable[[Zoo], Iterator[Reference]]:
    """Return an iteration over one step of a kind for every merge of a zoo."""

    def references(zoo: Zoo) -> Iterator[Reference]:
        return (
            Reference(kind, names, label) for names in zoo.combinations() for label in zoo.variants
        )

    return references


def the_merge(zoo: Zoo, reference: Reference) -> tuple[Reference, ...]:
    """Return the merge that a step is about: all that it needs."""
    return (reference._replace(kind="merge"),)
