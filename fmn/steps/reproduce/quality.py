"""How much of its models a merge keeps, by method, heads, number of models and of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmn import merging
from fmn.catalog import Catalog, Entry, read_paired
from fmn.errors import ParamsError
from fmn.evaluation import interval
from fmn.merging import Rule, Variant
from fmn.params import MergeSettings, Method, Params
from fmn.recipe import Heads
from fmn.steps.context import Context
from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.plan import plan_zoo
from fmn.steps.zoo.run import InProcess, Tally, run_graph
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Memo, Record, Store

if TYPE_CHECKING:
    from fmn.catalog.pairs import Resampled

HEADS: tuple[Heads, ...] = ("own", "refit")
SAMPLES = (128, 32, 512, 2048)
"""Training examples; sets of all sizes are merged with the first number, all models with each."""
LEADERS = ("average", "mask-fisher", "regmean", "tsv-m")
"""The rules by which sets of every size are merged, with refitted heads."""


@dataclass(frozen=True)
class QualityProtocol:
    """How much is done; by default all of it.

    Attributes:
        methods: merge rules, with what is said to them; by default every rule at its defaults that
            can merge pairs of the zoo.
        samples: training examples of statistics and of refitted heads. The first number serves
            pairs, all models, and the sets between.
        sizes: how many models are merged at a time; null is every number from two up.
    """

    methods: tuple[Method, ...] | None = None
    samples: tuple[int, ...] = SAMPLES
    sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Slice:
    """Merges over so many examples.

    Attributes:
        title: what they are.
        samples: training examples.
        graph: the steps.
    """

    title: str
    samples: int
    graph: Graph

    def merges(self) -> Iterator[Reference]:
        """Iterate over the merges."""
        return self.graph.of("merge")


@dataclass(frozen=True)
class Kept:
    """What a merge kept of its models.

    Attributes:
        models: their names.
        method: the rule, with those of its parameters that are not the defaults.
        heads: what became of them.
        samples: training examples that it took; null if it took none.
        needs: what it was made of beside the models.
        mean: normalised score, merged / individual, mean over the models.
        mean_above_chance: the same without models that are at chance themselves; null if it is not
            known which.
        worst: the lowest of a model.
        interval: of the mean without models at chance; null if it is not known.
        seconds: of the models' statistics and of merging.
        bytes: of the statistics.
    """

    models: tuple[str, ...]
    method: str
    heads: str
    samples: int | None
    needs: tuple[str, ...]
    mean: float
    mean_above_chance: float | None
    worst: float
    interval: tuple[float, float] | None
    seconds: float
    bytes: int

    @property
    def fair(self) -> float:
        """The mean without models at chance, as far as these are known."""
        return self.mean if self.mean_above_chance is None else self.mean_above_chance


def open_quality(params: Params, protocol: QualityProtocol, memo: Memo) -> tuple[Slice, ...]:
    """Open and check everything that the protocol needs of a zoo; what is worth most comes first.

    Of the params' settings it takes all but ``merge``, ``evaluate.select``, the numbers of
    examples, weights and given statistics; of ``merge`` the dtype and the parameters.

    Raises:
        ParamsError: a method, a number of examples or a size that makes no sense.
        FmnError: a model, data or label that does not fit; see :func:`fmn.steps.zoo.zoo.open_zoo`.
    """
    count = len(params.models)
    sizes = set(range(2, count + 1) if protocol.sizes is None else protocol.sizes)
    if not sizes or min(sizes) < 2 or max(sizes) > count:
        raise ParamsError(
            f"sizes {', '.join(map(str, sorted(sizes))) or 'none'}: expected numbers from 2 to "
            f"{count}, the models there are"
        )
    if not protocol.samples or min(protocol.samples) < 1:
        raise ParamsError(
            f"samples {', '.join(map(str, protocol.samples)) or 'none'}: expected 1 or more "
            "examples"
        )
    methods = _methods(params) if protocol.methods is None else protocol.methods
    leaders = tuple(each for each in methods if each.method in LEADERS and not each.parameters)
    first, *others = dict.fromkeys(protocol.samples)
    between = [size for size in range(3, count) if size in sizes]
    plans: list[tuple[str, int, tuple[Method, ...], tuple[Heads, ...], list[int]]] = [
        (f"all {count} models", first, methods, HEADS, [count]),
        ("pairs", first, methods, HEADS, [2] if count > 2 else []),
        ("sets between", first, leaders, ("refit",), between),
        *((f"all {count} models", samples, methods, HEADS, [count]) for samples in others),
    ]
    slices = []
    for title, samples, chosen, heads, wanted in plans:
        fitting = [size for size in wanted if size in sizes]
        usable = tuple(each for each in chosen if all(_merges(each, size) for size in fitting))
        if fitting and usable:
            zoo = open_zoo(_narrowed(params, usable, samples, heads, fitting), memo)
            slices.append(Slice(f"{title}, {samples:,} examples", samples, Graph(zoo)))
    return tuple(slices)


def _methods(params: Params) -> tuple[Method, ...]:
    """Return every rule that can merge models of this zoo, and the strongest with statistics."""
    every = [Method(method=name) for name in merging.rule_names()]
    every.append(Method(method="tsv-m", parameters={"metric": "both"}))
    if params.parent is not None:
        return tuple(every)
    return tuple(each for each in every if not _rule(each).parent)


def _merges(method: Method, size: int) -> bool:
    return _rule(method).models in (None, size)


def _rule(method: Method) -> Rule:
    """Return the rule with what it needs for these parameters."""
    return merging.variants([(method.method, method.parameters)], {})[0].rule


def _narrowed(
    params: Params,
    methods: tuple[Method, ...],
    samples: int,
    heads: tuple[Heads, ...],
    sizes: Sequence[int],
) -> Params:
    own = {
        parameter.name
        for method in methods
        for parameter in merging.get_rule(method.method).parameters
    }
    said = {name: value for name, value in params.merge.parameters.items() if name in own}
    return params.model_copy(
        update={
            "models": tuple(
                model.model_copy(update={"weight": 1.0, "fisher": None}) for model in params.models
            ),
            "fisher": params.fisher.model_copy(update={"samples": samples}),
            "refit": params.refit.model_copy(update={"samples": samples}),
            "evaluate": params.evaluate.model_copy(update={"select": None}),
            "merge": MergeSettings(
                methods=methods,
                sizes=tuple(sizes),
                parameters=said,
                dtype=params.merge.dtype,
                heads=heads,
            ),
        }
    )


def missing(slices: Iterable[Slice], store: Store) -> tuple[int, int]:
    """Return how many merges are not measured yet, and how many there are.

    Raises:
        StoreError: the store failed.
    """
    keys = {
        part.graph.step(each._replace(kind="evaluate")).key
        for part in slices
        for each in part.merges()
    }
    return len(keys) - len(store.find("evaluate", sorted(keys))), len(keys)


def run_quality(
    slices: Sequence[Slice], store: Store, context: Context, tell: Callable[[str], None]
) -> Tally:
    """Do what is missing; whoever is interrupted goes on later.

    Args:
        slices: the protocol.
        store: where results are.
        context: where to compute.
        tell: gets a line before each slice.

    Raises:
        FmnError: a step or the store failed.
    """
    for line in dict.fromkeys(line for part in slices for line in part.graph.zoo.doubts):
        context.report.warn(line)
    tally = Tally()
    for part in slices:
        tell(part.title)
        executor = InProcess(part.graph, store, context)
        tally.add(run_graph(part.graph, plan_zoo(part.graph, store), store, executor))
    return tally


def read_quality(slices: Iterable[Slice], store: Store) -> tuple[Kept, ...]:
    """Read what every merge of the protocol that was measured kept, each once.

    Raises:
        StoreError: the store failed.
    """
    entries = Catalog(store).entries
    known: dict[str, Resampled] = {}
    kept: dict[str, Kept] = {}
    for part in slices:
        statistics = store.find(
            "fisher", [part.graph.step(each).key for each in part.graph.of("fisher")]
        )
        for reference in part.merges():
            key = part.graph.step(reference).key
            measured = part.graph.step(reference._replace(kind="evaluate")).key
            entry = entries.get(key)
            found = (
                [each for each in entry.evaluations if each.record.key == measured]
                if (entry)
                else []
            )
            if entry and found and key not in kept:
                entry = replace(entry, evaluations=tuple(found))
                kept[key] = _kept(part, reference, entry, statistics, store, known)
    return tuple(kept.values())


def _kept(
    part: Slice,
    reference: Reference,
    entry: Entry,
    statistics: Mapping[str, Record],
    store: Store,
    known: dict[str, Resampled],
) -> Kept:
    variant = part.graph.zoo.variants[reference.variant]
    mean, worst = entry.mean(), entry.worst()
    assert mean is not None and worst is not None  # a merge is measured with its models
    keys = {part.graph.step(each).key for each in part.graph.needs(reference)}
    records = [statistics[key] for key in sorted(keys & statistics.keys())]
    left_out = set(entry.at_chance() or ()) if entry.mean_above_chance() is not None else set()
    resampled = read_paired(store, entry, known).mean(
        [name for name in entry.scores if name not in left_out]
    )
    return Kept(
        models=reference.models,
        method=_named(variant),
        heads=variant.heads,
        samples=part.samples if variant.statistics else None,
        needs=(*(["parent"] if variant.rule.parent else []), *variant.statistics),
        mean=mean,
        mean_above_chance=entry.mean_above_chance(),
        worst=worst,
        interval=None if resampled is None else interval(resampled),
        seconds=entry.record.made.seconds + sum(record.made.seconds for record in records),
        bytes=sum(output.size for record in records for output in record.outputs.values()),
    )


def _named(variant: Variant) -> str:
    """Return the rule's name with the parameters that are not its defaults."""
    rule: Rule = variant.rule
    defaults = {parameter.name: parameter.default for parameter in rule.parameters}
    said = [
        f"{name} {value}"
        for name, value in variant.parameters.items()
        if value != defaults.get(name, value)
    ]
    return ", ".join([rule.name, *said])
