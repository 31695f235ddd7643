"""What is merged and measured, and with which Fishers: the paper's protocol, for a zoo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fmn import merging
from fmn.errors import ParamsError, unknown
from fmn.params import MergeSettings, Method, Params
from fmn.recipe import PAPER_NODES, FisherSettings
from fmn.statistics import Measurement
from fmn.steps.kind import Reference
from fmn.steps.statistic import KeyedStatistic, StatisticStep
from fmn.steps.step import split_digest
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Memo

PUBLISHED = "published-code"
"""The mask Fisher and its use as the published code has them; see docs/reproduction.md for where
each choice was read.
"""

METHODS = ("average", "mask-fisher", PUBLISHED, "fisher")
SAMPLES = (128, 2048, 32768)
EVERY = 2**31 - 1
"""More examples than any task has: all of them."""

TITLES = {
    "average": "averaging",
    "mask-fisher": "mask Fisher",
    PUBLISHED: "published code",
    "fisher": "full Fisher",
}


@dataclass(frozen=True)
class Protocol:
    """How much of the paper's protocol is done; by default all of it.

    Attributes:
        methods: ``published-code``, or merge rules.
        samples: training examples that Fishers are taken over, ascending; a task that has fewer
            gives all it has.
        sizes: how many models are merged at a time; null is every number from two up, and without
            any Fishers are computed and timed, and nothing is merged. More than two are merged with
            the Fishers of the fewest examples only.
    """

    methods: tuple[str, ...] = METHODS
    samples: tuple[int, ...] = SAMPLES
    sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Column:
    """One way to merge: a method, with Fishers over so many examples.

    Attributes:
        method: as the protocol calls it.
        samples: that were asked for; null of a method that needs nothing computed of the models.
        exhausted: no task has more examples than that.
        graph: the steps.
        of_all_sizes: sets of every size are merged; otherwise only pairs.
    """

    method: str
    samples: int | None
    exhausted: bool
    graph: Graph
    of_all_sizes: bool = True

    @property
    def title(self) -> str:
        """What the method is called in tables."""
        return TITLES.get(self.method, self.method)

    @property
    def examples(self) -> str:
        """Over how many examples, in words."""
        return "" if self.samples is None else "all" if self.exhausted else f"{self.samples:,}"

    @property
    def label(self) -> str:
        """Such as ``mask Fisher 128``."""
        return f"{self.title} {self.examples}".strip()

    @cached_property
    def fishers(self) -> Mapping[str, KeyedStatistic]:
        """The step of each model's statistic, by name; of no model, if the method needs none."""
        steps = {each.models[0]: self.graph.step(each) for each in self.graph.of("fisher")}
        return {name: step for name, step in steps.items() if isinstance(step, KeyedStatistic)}

    def is_over(self, examples: int | None) -> bool:
        """Return whether so many examples come to these Fishers, if need be all that there are."""
        if self.samples is None or examples is None or not self.exhausted:
            return self.samples == examples
        counts: list[int] = [step.inputs["settings"]["samples"] for step in self.fishers.values()]
        return examples >= max(counts)

    def merges(self, sizes: Sequence[int]) -> Iterator[Reference]:
        """Iterate over a merge, and then its evaluation, of every set of so many models."""
        for merge in self.graph.of("merge"):
            if len(merge.models) in sizes:
                yield merge
                yield merge._replace(kind="evaluate")


@dataclass(frozen=True)
class Reproduction:
    """The protocol on a zoo, opened and checked.

    Attributes:
        columns: every way to merge, by the number of examples and then in the order of methods.
        sizes: of the sets of models.
    """

    columns: tuple[Column, ...]
    sizes: tuple[int, ...]

    @property
    def graph(self) -> Graph:
        """The models, and how each is measured: the same in every column."""
        return self.columns[0].graph


def open_reproduction(params: Params, protocol: Protocol, memo: Memo) -> Reproduction:
    """Open and check everything that the protocol needs of a zoo.

    Of the params' settings it takes the store, the data, the parent, the models without their
    weights and given Fishers, ``evaluate`` but for ``select`` (the paper chooses nothing), of
    ``fisher`` what the protocol leaves open (the seed, the maximal length, the batch size, the
    dtype), and of ``merge`` the dtype, and the parameters of rules that are not of the paper.

    Args:
        params: the zoo.
        protocol: how much is done.
        memo: digests of files.

    Raises:
        ParamsError: a method, a number of examples or a size that makes no sense.
        FmnError: a model, data or label that does not fit; see :func:`fmn.steps.zoo.zoo.open_zoo`.
    """
    sizes = _checked(params, protocol)
    whole = params.evaluate.model_copy(update={"select": None})
    params = params.model_copy(update={"evaluate": whole})
    columns: dict[tuple[str, ...], Column] = {}
    for number, samples in enumerate(sorted(set(protocol.samples))):
        for method in dict.fromkeys(protocol.methods):
            if not _rule(method).statistics and number:
                continue
            merged = sizes if number == 0 else tuple(size for size in sizes if size == 2)
            column = replace(
                _column(params, method, samples, merged, memo), of_all_sizes=number == 0
            )
            columns.setdefault((method, *(step.key for step in column.fishers.values())), column)
    return Reproduction(tuple(columns.values()), sizes)


def _checked(params: Params, protocol: Protocol) -> tuple[int, ...]:
    known = [PUBLISHED, *merging.rule_names()]
    for method in protocol.methods:
        if method not in known:
            raise ParamsError(unknown("method", method, known))
    if not protocol.methods:
        raise ParamsError("no method; name at least one, such as average")
    if others := [merging.get_rule(method) for method in protocol.methods if method not in METHODS]:
        merging.check_parameters(others, params.merge.parameters)
    if not protocol.samples or min(protocol.samples) < 1:
        raise ParamsError(
            f"samples {', '.join(map(str, protocol.samples)) or 'none'}: expected 1 or more "
            "examples"
        )
    if PUBLISHED in protocol.methods and params.fisher.seed is None:
        raise ParamsError(
            f"fisher.seed is null, but {PUBLISHED} draws examples by a seed; give one"
        )
    models = len(params.models)
    sizes = (
        tuple(range(2, models + 1))
        if protocol.sizes is None
        else tuple(sorted(set(protocol.sizes)))
    )
    if sizes and (min(sizes) < 2 or max(sizes) > models):
        raise ParamsError(
            f"sizes {', '.join(map(str, sizes))}: expected numbers from 2 to {models}, the models "
            "there are"
        )
    return sizes


def _rule(method: str) -> merging.Rule:
    return merging.get_rule("mask-fisher" if method == PUBLISHED else method)


def _column(
    params: Params, method: str, samples: int, sizes: tuple[int, ...], memo: Memo
) -> Column:
    rule = _rule(method)
    own = {parameter.name for parameter in rule.parameters}
    parameters = {
        name: value
        for name, value in params.merge.parameters.items()
        if name in own and method not in METHODS
    }
    if several := [name for name, value in parameters.items() if isinstance(value, list)]:
        raise ParamsError(f"parameters: {several[0]}: a protocol takes one value, not a list")
    if method == PUBLISHED:
        parameters = {"association": "layer-mean"}
    zoo = open_zoo(
        params.model_copy(
            update={
                "models": tuple(
                    model.model_copy(update={"weight": 1.0, "fisher": None})
                    for model in params.models
                ),
                "fisher": _fisher_settings(params.fisher, method, samples),
                "merge": MergeSettings(
                    methods=(Method(method=rule.name),),
                    sizes=sizes,
                    parameters=parameters,
                    dtype=params.merge.dtype,
                    heads=("merged",),  # as the paper has it
                ),
            }
        ),
        memo,
    )
    members = {
        name: replace(
            member,
            statistics={n: _no_more_than_there_are(s) for n, s in member.statistics.items()},
        )
        for name, member in zoo.members.items()
    }
    graph = Graph(replace(zoo, members=members))
    if not rule.statistics:
        return Column(method, None, exhausted=True, graph=graph)
    rows = [
        split_digest(each.data, each.task, each.task.train, memo)[1]
        for each in zoo.measures.values()
    ]
    return Column(method, samples, samples >= max(rows), graph)


def _fisher_settings(base: FisherSettings, method: str, samples: int) -> FisherSettings:
    fixed: dict[str, object] = {
        "samples": samples,
        "replacement": False,
        "labels": None,
        "nodes": PAPER_NODES,
        "placement": "after-activation",
        "aggregation": "per-example",
    }
    if method == PUBLISHED:
        fixed |= {"replacement": True, "aggregation": "per-batch", "batch_size": 32}
    return base.model_copy(update=fixed)


def _no_more_than_there_are(step: KeyedStatistic | Measurement) -> KeyedStatistic | Measurement:
    """Return a Fisher's step that asks for no more examples than there are.

    The result is the same, without a warning.
    """
    if isinstance(step, StatisticStep):
        return replace(
            step,
            settings=step.settings.model_copy(
                update={"samples": step.inputs["settings"]["samples"]}
            ),
        )
    return step
